"""Every port of the orchestrator, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from chassis.errors import Kind, RemoteError
from orchestrator.domain.money import NanoUsd, Price
from orchestrator.domain.plan import Bound, EmbeddingPlan, Plan
from orchestrator.domain.ports import Embedding, Event, Finished, Passage, Reservation
from orchestrator.domain.route_entry import RouteEntry
from orchestrator.domain.routes import EVERYBODY, Route, RouteCandidate, RouteTable, Task
from orchestrator.domain.usage import RequestUsage

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

SMOLLM2 = RouteCandidate("local", "smollm2-135m-instruct", 1024)
MINILM = RouteCandidate("minilm", "all-minilm-l6-v2")

PRICES = {
    "local/smollm2-135m-instruct": (50_000_000, 200_000_000),
    "dear/model": (2_500_000_000, 10_000_000_000),
    "minilm/all-minilm-l6-v2": (10_000_000, 0),
}


def a_table(*routes: tuple[str, str, Task, Sequence[RouteCandidate]], version: int = 1) -> RouteTable:
    """Make a table of (tenant, model, task, candidates)."""
    return RouteTable(
        version,
        {(owner, model): Route(model, task, tuple(candidates), LONG_AGO) for owner, model, task, candidates in routes},
    )


SEEDED = a_table(
    (EVERYBODY, "smollm2", Task.CHAT, [SMOLLM2]),
    (EVERYBODY, "all-minilm-l6-v2", Task.EMBEDDING, [MINILM]),
)


class FakeRoutes:
    """Routes that a test gives."""

    def __init__(self, table: RouteTable = SEEDED) -> None:
        self.current = table

    def table(self) -> RouteTable:
        return self.current


class FakeRouteBook:
    """A route book that a test writes; `failure` is raised while it is set."""

    def __init__(self, table: RouteTable = SEEDED) -> None:
        self.table = table
        self.routes = {(EVERYBODY, route.model): route for route in table.visible(EVERYBODY)}
        self.failure: Exception | None = None
        self.asked: list[int | None] = []

    async def read(self, known_version: int | None) -> RouteTable | None:
        self.asked.append(known_version)
        if self.failure is not None:
            raise self.failure
        return None if known_version == self.table.version else self.table

    def change(self, tenant_id: str, model: str, candidates: Sequence[RouteCandidate]) -> None:
        """Give a tenant a chat route of its own."""
        self.write(self.routes | {(tenant_id, model): Route(model, Task.CHAT, tuple(candidates), LONG_AGO)})

    def write(self, routes: Mapping[tuple[str, str], Route]) -> None:
        """Put other routes in the place of all there are."""
        self.routes = dict(routes)
        self.table = RouteTable(self.table.version + 1, self.routes)


class FakeRouteEditor:
    """Edits a route book in memory."""

    def __init__(self, book: FakeRouteBook) -> None:
        self.book = book

    async def put(self, entry: RouteEntry) -> None:
        route = Route(entry.model, entry.task, entry.candidates, LONG_AGO)
        self.book.write(self.book.routes | {(entry.tenant_id, entry.model): route})

    async def remove(self, tenant_id: str, model: str) -> bool:
        kept = {key: route for key, route in self.book.routes.items() if key != (tenant_id, model)}
        there = len(kept) < len(self.book.routes)
        self.book.write(kept)
        return there

    async def entries(self, tenant_id: str | None) -> list[RouteEntry]:
        return [
            RouteEntry(owner, model, route.task, route.candidates)
            for (owner, model), route in sorted(self.book.routes.items(), key=lambda item: item[0][::-1])
            if tenant_id in {None, owner}
        ]


@dataclass
class FakeRetrieval:
    """Finds what a test put in; `failure` is raised while it is set."""

    passages: list[Passage] = field(default_factory=list)
    failure: Exception | None = None
    asked: list[tuple[tuple[str, ...], str, int]] = field(default_factory=list)

    async def search(
        self, vector_store_ids: Sequence[str], query: str, limit: int, time: timedelta
    ) -> Sequence[Passage]:
        self.asked.append((tuple(vector_store_ids), query, limit))
        if self.failure is not None:
            raise self.failure
        return self.passages[:limit]


@dataclass
class FakeMetering:
    """A price book and one budget: reserves as metering does, for one tenant."""

    prices: Mapping[str, tuple[int, int]] = field(default_factory=lambda: dict(PRICES))
    free: int = 10**15
    soft_limit_passed: bool = False
    failure: BaseException | None = None
    reserved: dict[str, tuple[tuple[Bound, ...], timedelta]] = field(default_factory=dict)
    on_reserve: Callable[[], object] = lambda: None
    gate: asyncio.Event | None = None
    """While it is unset, metering takes for ever."""

    async def reserve(self, request_id: str, bounds: Sequence[Bound], lease: timedelta, time: timedelta) -> Reservation:
        self.on_reserve()
        if self.gate is not None:
            await self.gate.wait()
        prices = tuple(self._price(bound.price_key) for bound in bounds)
        pairs = zip(prices, bounds, strict=True)
        held = max(price.cost(bound.input_tokens, bound.output_tokens) for price, bound in pairs)
        if held > self.free:
            raise RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent")
        if self.failure is not None:
            raise self.failure
        self.reserved[request_id] = (tuple(bounds), lease)
        return Reservation(held, prices, self.soft_limit_passed)

    def _price(self, key: str) -> Price:
        if key not in self.prices:
            raise RemoteError(Kind.INVALID, "UNPRICED_MODEL", f"{key} has no price")
        read, written = self.prices[key]
        return Price(key, f"prc_{key}", NanoUsd(read), NanoUsd(written))


Said = Event | BaseException | asyncio.Event


class FakeWorker:
    """Says what a test scripted: events in order, an exception to raise, an `asyncio.Event` to wait for first.

    After a stop it says `stopped`, unless the script is over; without one it never answers again.
    """

    def __init__(self, *script: Said, stopped: Finished | None = None, embedding: Embedding | Exception | None = None):
        self.script = script
        self.stopped = stopped
        self.embedding = embedding
        self.unreachable: Exception | None = None
        self.reached: asyncio.Event | None = None
        self.end: Exception | None = None
        self.embed_gate: asyncio.Event | None = None
        self.plans: list[Plan] = []
        self.embeddings: list[EmbeddingPlan] = []
        self.runs: list[FakeInference] = []

    async def reach(self, time: timedelta) -> None:
        if self.reached is not None:
            await self.reached.wait()
        if self.unreachable is not None:
            raise self.unreachable

    @asynccontextmanager
    async def infer(self, plan: Plan) -> AsyncIterator[FakeInference]:
        self.plans.append(plan)
        inference = FakeInference(self.script, self.stopped)
        self.runs.append(inference)
        try:
            yield inference
            if self.end is not None:
                raise self.end
        finally:
            inference.left = True

    async def embed(self, plan: EmbeddingPlan) -> Embedding:
        self.embeddings.append(plan)
        if self.embed_gate is not None:
            await self.embed_gate.wait()
        if isinstance(self.embedding, Exception):
            raise self.embedding
        assert self.embedding is not None
        return self.embedding


class FakeInference:
    """One run of a script."""

    def __init__(self, script: Iterable[Said], stopped: Finished | None) -> None:
        self._script = iter(script)
        self._stopped = stopped
        self._stop = asyncio.Event()
        self.left = False

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_set()

    async def read(self) -> Event:
        if self.was_stopped:
            return await self._after_stop()
        said = next(self._script)
        while isinstance(said, asyncio.Event):
            gate = asyncio.ensure_future(said.wait())
            stop = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait([gate, stop], return_when=asyncio.FIRST_COMPLETED)
            gate.cancel()
            stop.cancel()
            if self.was_stopped:
                return await self._after_stop()
            said = next(self._script)
        if isinstance(said, BaseException):
            raise said
        return said

    def stop(self) -> None:
        self._stop.set()

    async def _after_stop(self) -> Event:
        if self._stopped is None:
            await asyncio.Event().wait()
        assert self._stopped is not None
        return self._stopped


class FakeUsageLog:
    """Usage in memory; while `failure` is set nothing is written, while `gate` is unset it takes for ever."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], RequestUsage] = {}
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.tries = 0

    async def record(self, usage: RequestUsage) -> None:
        self.tries += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.events.setdefault((usage.tenant_id, usage.event_id), usage)

    @property
    def recorded(self) -> list[RequestUsage]:
        return list(self.events.values())
