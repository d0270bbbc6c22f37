"""What the domain needs from the outside. Times are what the caller still has; each call ends within them."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol

from orchestrator.domain.money import NanoUsd, Price
from orchestrator.domain.plan import Bound, EmbeddingPlan, Plan
from orchestrator.domain.route_entry import RouteEntry
from orchestrator.domain.routes import RouteTable
from orchestrator.domain.usage import Attempt, RequestUsage


class Routes(Protocol):
    """The routes in force."""

    def table(self) -> RouteTable:
        """Return them at once, from memory. Raises `Unavailable` when they were never read."""


class RouteBook(Protocol):
    """Where routes are kept."""

    async def read(self, known_version: int | None) -> RouteTable | None:
        """Return the routes, or None when `known_version` is still theirs. Raises `Unavailable`."""


class RouteEditor(Protocol):
    """What operators do to routes. Each change is whole or not at all, and safe to repeat.

    All raise `Unavailable`, and `PermissionDenied` for somebody who may not change routes.
    """

    async def put(self, entry: RouteEntry) -> None:
        """Make this the tenant's route of that name, whatever it was before."""

    async def remove(self, tenant_id: str, model: str) -> bool:
        """Take the tenant's own route away; say whether there was one."""

    async def entries(self, tenant_id: str | None) -> Sequence[RouteEntry]:
        """Return a tenant's own routes, or all of every tenant, by model and tenant."""


class Bodies(Protocol):
    """The format of bodies: JSON."""

    def parse(self, body: bytes) -> object:
        """Raises `InvalidRequest` for what is not JSON."""

    def render(self, document: object) -> bytes:
        """Return UTF-8 in which no character is escaped that need not be. Raises `InvalidRequest` for no JSON value."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document. `page` counts from 1; 0 where the format has none."""

    file_id: str
    filename: str
    page: int
    text: str
    score: float


class Retrieval(Protocol):
    """Knowledge of the caller's tenant."""

    async def search(
        self, vector_store_ids: Sequence[str], query: str, limit: int, time: timedelta
    ) -> Sequence[Passage]:
        """Return the best passages, best first.

        Raises `RemoteError` for what retrieval says, `Unavailable` or `DeadlineExceeded` when it says nothing.
        """


class Reservation(NamedTuple):
    """Money set aside; the prices are those of the bounds, in their order."""

    held: NanoUsd
    prices: tuple[Price, ...]
    soft_limit_passed: bool = False


class Metering(Protocol):
    """The caller's budget."""

    async def reserve(self, request_id: str, bounds: Sequence[Bound], lease: timedelta, time: timedelta) -> Reservation:
        """Set the dearest of `bounds` aside for as long as `lease`. Safe to repeat.

        Raises `RemoteError` when metering refuses: an unpriced model, a spent budget; `Unavailable` or
        `DeadlineExceeded` when nobody knows whether it was done.
        """


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an answer broke off or never came: a stable reason, and words for people."""

    reason: str
    message: str


class Answering(NamedTuple):
    """A candidate, by its place in the plan, begins to answer: from here on there is no other."""

    candidate: int


class Payloads(NamedTuple):
    """Bytes of a provider that arrived together, for the client as they are."""

    payloads: Sequence[bytes]


class Finished(NamedTuple):
    """The account of a plan: every provider call, and why there is no whole answer if there is none."""

    attempts: tuple[Attempt, ...]
    failure: Failure | None = None
    usage_payload: bytes = b""


Event = Answering | Payloads | Finished


class Inference(Protocol):
    """A plan that a worker runs."""

    async def read(self) -> Event:
        """Wait for the next event; the last is `Finished`.

        Raises `RemoteError` for what the worker says, `Unavailable` or `DeadlineExceeded` when it broke off.
        """

    def stop(self) -> None:
        """Ask for an early end, at once and without waiting: `Finished` follows all the same."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors, one per input, of little-endian 32-bit floats; none when it failed."""

    vectors: tuple[bytes, ...]
    finished: Finished


class Worker(Protocol):
    """Runs plans against providers."""

    async def reach(self, time: timedelta) -> None:
        """Wait a little for a worker that can be called. Raises `Unavailable` when there is none: nothing was begun."""

    def infer(self, plan: Plan) -> AbstractAsyncContextManager[Inference]:
        """Run `plan` inside the block. Leaving it before `Finished` aborts the plan, and its account is lost."""

    async def embed(self, plan: EmbeddingPlan) -> Embedding:
        """Embed the inputs by the first candidate that answers. Raises as `Inference.read`."""


class UsageLog(Protocol):
    """Where usage is written down for ever."""

    async def record(self, usage: RequestUsage) -> None:
        """Write it durably; the same event again changes nothing. Raises `Unavailable`."""
