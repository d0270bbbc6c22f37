"""What endpoints receive as arguments: collaborators, the caller, pages and ids."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

from chassis.errors import InvalidRequest
from chassis.tenancy import Caller, current_caller
from fastapi import Depends, Path, Query, Request

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


async def _require_newest_first(order: Literal["asc", "desc"] = "desc", before: str | None = None) -> None:
    """Refuse orders that lists do not support."""
    if order != "desc":
        raise InvalidRequest("order must be desc: lists are newest first.", param="order")
    if before is not None:
        raise InvalidRequest("before is not supported; page with after.", param="before")


CurrentCaller = Annotated[Caller, Depends(_caller)]
PathId = Annotated[str, Path(pattern=ID_PATTERN)]
QueryTenantId = Annotated[str, Query(pattern=ID_PATTERN, description="The tenant whose records are listed.")]
After = Annotated[str | None, Query(pattern=ID_PATTERN, description="Continue after the record with this id.")]
NEWEST_FIRST = Depends(_require_newest_first)


async def _page(limit: Annotated[int, Query(ge=1, le=100)] = 20, after: After = None) -> PageRequest:
    return PageRequest(limit, after or "")


async def _long_page(limit: Annotated[int, Query(ge=1, le=10_000)] = 100, after: After = None) -> PageRequest:
    return PageRequest(limit, after or "")


PageQuery = Annotated[PageRequest, Depends(_page)]
LongPageQuery = Annotated[PageRequest, Depends(_long_page)]
