"""What the endpoints need, handed to them per request."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.tenancy import Caller, current_caller
from fastapi import Depends, Path, Query, Request

from gateway.domain.accounts import Accounts
from gateway.domain.administration import ADMIN, Administration
from gateway.domain.inference import Inference
from gateway.domain.knowledge import Knowledge
from gateway.domain.tenants import Directory, Page

T = TypeVar("T")

ID = r"^[A-Za-z0-9_.:-]{1,128}$"


@dataclass(frozen=True, slots=True)
class Ports:
    """The doors out of the service, and what the endpoints must know of its settings."""

    inference: Inference
    knowledge: Knowledge
    accounts: Accounts
    directory: Directory
    administration: Administration
    clock: Clock
    upload_bytes: int


def _handed(choose: Callable[[Ports], T]) -> Callable[[Request], Awaitable[T]]:
    # A coroutine, because FastAPI sends plain functions through a thread.
    async def hand(request: Request) -> T:
        return choose(request.app.state.ports)

    return hand


async def _caller() -> Caller:
    return current_caller()


async def _admin() -> None:
    current_caller().principal.require(ADMIN)


async def _newest_first(order: Literal["asc", "desc"] = "desc", before: str | None = None) -> None:
    """Refuse what lists cannot do: a page in another order would be a wrong page."""
    if order != "desc":
        raise InvalidRequest("order must be desc: lists are newest first.", param="order")
    if before is not None:
        raise InvalidRequest("before is not supported; go on with after.", param="before")


InferencePort = Annotated[Inference, Depends(_handed(lambda ports: ports.inference))]
KnowledgePort = Annotated[Knowledge, Depends(_handed(lambda ports: ports.knowledge))]
AccountsPort = Annotated[Accounts, Depends(_handed(lambda ports: ports.accounts))]
DirectoryPort = Annotated[Directory, Depends(_handed(lambda ports: ports.directory))]
AdministrationPort = Annotated[Administration, Depends(_handed(lambda ports: ports.administration))]
UploadBytes = Annotated[int, Depends(_handed(lambda ports: ports.upload_bytes))]
CurrentCaller = Annotated[Caller, Depends(_caller)]

PathId = Annotated[str, Path(pattern=ID)]
QueryId = Annotated[str, Query(pattern=ID)]
After = Annotated[str | None, Query(pattern=ID, description="Go on after the record with this id.")]
NEWEST_FIRST = Depends(_newest_first)
ADMINS_ONLY = Depends(_admin)


async def _page(limit: Annotated[int, Query(ge=1, le=100)] = 20, after: After = None) -> Page:
    return Page(limit, after or "")


async def _long_page(limit: Annotated[int, Query(ge=1, le=10_000)] = 100, after: After = None) -> Page:
    return Page(limit, after or "")


AnyPage = Annotated[Page, Depends(_page)]
LongPage = Annotated[Page, Depends(_long_page)]
