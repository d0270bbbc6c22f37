"""What endpoints receive as arguments: collaborators, the caller, pages and ids."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from chassis.errors import InvalidRequest
from chassis.tenancy import Caller, current_caller
from fastapi import Depends, Path, Query, Request
from fastapi.dependencies.models import Dependant
from pydantic import BeforeValidator

from gateway.web.pagination import PageRequest
from gateway.web.schemas import ID_PATTERN

Dependencies = Mapping[type, Any]
"""Collaborators of the endpoints by their type or Protocol; `main` makes it, `create_app` keeps it."""


def provided(kind: type[object]) -> Callable[[Request], Awaitable[Any]]:
    """Depend on the collaborator of this type: `Annotated[FilesClient, Depends(provided(FilesClient))]`."""

    # A coroutine, because FastAPI runs plain functions in a thread.
    async def provide(request: Request) -> Any:
        return request.app.state.dependencies[kind]

    return provide


async def _caller() -> Caller:
    return current_caller()


async def _require_newest_first(order: Literal["desc"] = "desc") -> None:
    """Lists have one order: newest first."""


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the operation does not have: none is accepted and then ignored."""
    if not request.query_params:
        return
    known = set(_query_names(request.scope["route"].dependant))
    for name in request.query_params:
        if name not in known:
            raise InvalidRequest(f"There is no query parameter {name}.", param=name)


def refuse_query(query: bytes) -> None:
    """Refuse all query parameters, for a route that has none."""
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        raise InvalidRequest(f"There is no query parameter {name}.", param=name)


def _query_names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for inner in dependant.dependencies:
        yield from _query_names(inner)


def _decimal_digits(text: object) -> object:
    """Refuse what `int` accepts besides decimal digits: underscores, signs, spaces, other alphabets, `1.0`."""
    if isinstance(text, str) and _DECIMAL.fullmatch(text) is None:
        raise ValueError("must be a whole number in decimal digits")
    return text


_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
DECIMAL = BeforeValidator(_decimal_digits)
CurrentCaller = Annotated[Caller, Depends(_caller)]
PathId = Annotated[str, Path(pattern=ID_PATTERN)]
QueryTenantId = Annotated[str, Query(pattern=ID_PATTERN, description="The tenant whose records are listed.")]
After = Annotated[str | None, Query(pattern=ID_PATTERN, description="Continue after the record with this id.")]
NEWEST_FIRST = Depends(_require_newest_first)


async def _page(limit: Annotated[int, Query(ge=1, le=100), DECIMAL] = 20, after: After = None) -> PageRequest:
    return PageRequest(limit, after or "")


async def _long_page(limit: Annotated[int, Query(ge=1, le=10_000), DECIMAL] = 100, after: After = None) -> PageRequest:
    return PageRequest(limit, after or "")


PageQuery = Annotated[PageRequest, Depends(_page)]
LongPageQuery = Annotated[PageRequest, Depends(_long_page)]
