"""Every port of the orchestrator, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from chassis.errors import ArgosyError, DeadlineExceeded, Kind, RemoteError
from chassis.tenancy import Principal
from orchestrator.background_tasks import RequestKey
from orchestrator.configuration.model import ConfigurationKind, Edit, ObjectKey
from orchestrator.context.model import Passage
from orchestrator.reservations.model import AttemptStart, HitRequest, Reservation, ReservedHit, TokenBound
from orchestrator.routing.choose import ChangeRoute, RouteCommands, RouteTable
from orchestrator.routing.document import entry_to_document
from orchestrator.routing.model import ALL_TENANTS, Route, RouteCandidate, RouteEntry, StoredRoute, Task
from orchestrator.usage.model import Hits, RequestUsage
from orchestrator.workers.model import (
    AttemptStarting,
    EmbeddingPlan,
    EmbeddingResult,
    Event,
    Finished,
    Plan,
    RerankPlan,
    RerankResult,
)
from values.attributes import Filter
from values.money import INPUT_PRICES, ClassPrices, NanoUsd, Price, cost, discount, max_cost

from services.orchestrator.tests.fake_configuration import CREATED_AT, FakeConfiguration
from services.orchestrator.tests.fake_hits import reserve_fake_hits

SMOLLM2 = RouteCandidate("local", "smollm2-135m-instruct", 1024)
MINILM = RouteCandidate("minilm", "all-minilm-l6-v2")

DEMO_ENTRIES = (
    RouteEntry(ALL_TENANTS, "smollm2", Task.CHAT, (SMOLLM2,)),
    RouteEntry(ALL_TENANTS, "all-minilm-l6-v2", Task.EMBEDDING, (MINILM,)),
)

PRICES = {
    "local/smollm2-135m-instruct": (50_000_000, 200_000_000),
    "dear/model": (2_500_000_000, 10_000_000_000),
    "minilm/all-minilm-l6-v2": (10_000_000, 0),
}


def route_table(*entries: RouteEntry, version: int = 1) -> RouteTable:
    return RouteTable(
        version,
        {
            (entry.tenant_id, entry.model): Route(entry.model, entry.task, entry.candidates, CREATED_AT, entry.policy)
            for entry in entries
        },
    )


DEMO_ROUTES = route_table(*DEMO_ENTRIES)


class FakeRouteStore(RouteCommands):
    """Routes in memory, at first the demo's; `failure` is raised while it is set."""

    def __init__(self, table: RouteTable = DEMO_ROUTES) -> None:
        self.table = table
        self.failure: Exception | None = None
        self.known_versions: list[int | None] = []
        """The argument of each `read`."""
        self.log = FakeConfiguration()
        self._versions: dict[tuple[str, str], int] = {}
        self._entries = {(entry.tenant_id, entry.model): entry for entry in DEMO_ENTRIES}

    async def read(self, known_version: int | None) -> RouteTable | None:
        self.known_versions.append(known_version)
        if self.failure is not None:
            raise self.failure
        return None if known_version == self.table.version else self.table

    async def edit(self, tenant_id: str, model: str, edit: Edit, change: ChangeRoute) -> StoredRoute | None:
        key = (tenant_id, model)
        stored = await self.find(*key)
        entry = change(stored)
        before = None if stored is None else entry_to_document(stored.entry)
        after = None if entry is None else entry_to_document(entry)
        async with self.log.change(edit) as opened:
            version = await opened.record(ObjectKey(ConfigurationKind.ROUTE, *key), before, after)
        if version is not None:
            self._versions[key] = version
            kept = {one: other for one, other in self._entries.items() if one != key}
            self._replace(kept if entry is None else kept | {key: entry})
        return await self.find(*key)

    async def find(self, tenant_id: str, model: str) -> StoredRoute | None:
        return next((one for one in await self.stored(tenant_id) if one.entry.model == model), None)

    async def stored(self, tenant_id: str | None) -> list[StoredRoute]:
        found = [
            StoredRoute(entry, self._versions.get(key, 0), CREATED_AT)
            for key, entry in self._entries.items()
            if tenant_id in {None, entry.tenant_id}
        ]
        return sorted(found, key=lambda stored: (stored.entry.model, stored.entry.tenant_id))

    def _replace(self, entries: dict[tuple[str, str], RouteEntry]) -> None:
        self._entries = entries
        self.table = route_table(*entries.values(), version=self.table.version + 1)


@dataclass
class FakeRetrievalClient:
    """Returns the passages of the test; `failure` is raised while it is set."""

    passages: list[Passage] = field(default_factory=list)
    failure: Exception | None = None
    searches: list[tuple[tuple[str, ...], str, int]] = field(default_factory=list)
    filters: Filter | None = None
    """Those of the last search."""

    async def search(
        self,
        vector_store_ids: Sequence[str],
        query: str,
        limit: int,
        timeout: timedelta,
        filters: Filter | None = None,
    ) -> Sequence[Passage]:
        self.searches.append((tuple(vector_store_ids), query, limit))
        self.filters = filters
        if self.failure is not None:
            raise self.failure
        return self.passages[:limit]


@dataclass
class FakeMeteringClient:
    """A price book and one budget: reserves as metering does, for one tenant."""

    prices: Mapping[str, tuple[int, int]] = field(default_factory=lambda: dict(PRICES))
    classes: Mapping[str, ClassPrices] = field(default_factory=dict)
    available: int = 10**15
    soft_limit_passed: bool = False
    failure: BaseException | None = None
    reserved: dict[str, tuple[tuple[TokenBound, ...], timedelta]] = field(default_factory=dict)
    discounts: dict[str, int] = field(default_factory=dict)
    on_reserve: Callable[[], object] = lambda: None
    gate: asyncio.Event | None = None
    """While it is unset, metering does not answer."""
    hit_groups: list[list[str]] = field(default_factory=list)
    """The requests of each call that reserved hits."""
    starts: list[AttemptStart] = field(default_factory=list)
    start_failure: BaseException | None = None
    start_gate: asyncio.Event | None = None

    async def reserve(
        self,
        request_id: str,
        bounds: Sequence[TokenBound],
        lease: timedelta,
        timeout: timedelta,
        discount_percent: int = 0,
    ) -> Reservation:
        self.on_reserve()
        if self.gate is not None:
            await self.gate.wait()
        prices = tuple(discount(self.price_of(bound.price_key), discount_percent) for bound in bounds)
        pairs = zip(prices, bounds, strict=True)
        held = max(max_cost(bound.input_tokens, bound.output_tokens, price, bound.absent) for price, bound in pairs)
        if held > self.available:
            details = {INPUT_PRICES: ",".join(str(price.input_per_million) for price in prices)}
            raise RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent", details=details)
        if self.failure is not None:
            raise self.failure
        self.reserved[request_id] = (tuple(bounds), lease)
        self.discounts[request_id] = discount_percent
        return Reservation(held, prices, self.soft_limit_passed)

    async def reserve_hits(
        self, hits: Sequence[HitRequest], lease: timedelta, timeout: timedelta
    ) -> Sequence[ReservedHit | ArgosyError]:
        self.on_reserve()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.hit_groups.append([hit.request_id for hit in hits])
        return reserve_fake_hits(self, hits, lease)

    async def start_attempt(self, principal: Principal, start: AttemptStart, timeout: timedelta) -> NanoUsd:
        """Hold the bound beside what is held for the attempts before."""
        if self.start_gate is not None:
            await self.start_gate.wait()
        if self.start_failure is not None:
            raise self.start_failure
        self.starts.append(start)
        bounds, _ = self.reserved[start.request_id]
        started = [bounds[0], *(bounds[one.bound] for one in self.starts)]
        return NanoUsd(
            sum(cost(bound.input_tokens, bound.output_tokens, self.price_of(bound.price_key)) for bound in started)
        )

    def price_of(self, key: str) -> Price:
        if key not in self.prices:
            raise RemoteError(Kind.INVALID, "UNPRICED_MODEL", f"{key} has no price")
        per_input, per_output = self.prices[key]
        return Price(key, f"prc_{key}", NanoUsd(per_input), NanoUsd(per_output), self.classes.get(key))


Scripted = Event | BaseException | asyncio.Event


class FakeWorkerClient:
    """Plays the script of a test: events in order, an exception to raise, an `asyncio.Event` to wait for first.

    After a stop it answers with `stopped`, unless the script is over; without `stopped` it never answers again.
    """

    def __init__(
        self,
        *script: Scripted,
        stopped: Finished | None = None,
        embedding: EmbeddingResult | Exception | Sequence[EmbeddingResult | Exception] | None = None,
        scores: RerankResult | Exception | Sequence[RerankResult | Exception] | None = None,
    ) -> None:
        self.script: Iterable[Scripted] = script
        self.stopped = stopped
        self.embedding = embedding
        self.scores = scores
        self.unavailable: Exception | None = None
        self.ready: asyncio.Event | None = None
        self.end_error: Exception | None = None
        self.embed_gate: asyncio.Event | None = None
        self.plans: list[Plan] = []
        self.embedding_plans: list[EmbeddingPlan] = []
        self.rerank_plans: list[RerankPlan] = []
        self.calls: list[FakeInferenceCall] = []

    async def wait_ready(self, timeout: timedelta) -> None:
        if not timeout:
            raise DeadlineExceeded("no time is left")
        if self.ready is not None:
            await self.ready.wait()
        if self.unavailable is not None:
            raise self.unavailable

    @asynccontextmanager
    async def infer(self, plan: Plan) -> AsyncIterator[FakeInferenceCall]:
        self.plans.append(plan)
        call = FakeInferenceCall(self.script, self.stopped)
        self.calls.append(call)
        try:
            yield call
            if self.end_error is not None:
                raise self.end_error
        finally:
            call.closed = True

    async def embed(self, plan: EmbeddingPlan) -> EmbeddingResult:
        self.embedding_plans.append(plan)
        if self.embed_gate is not None:
            await self.embed_gate.wait()
        scripted = self.embedding
        if isinstance(scripted, Sequence) and not isinstance(scripted, EmbeddingResult):
            scripted = scripted[len(self.embedding_plans) - 1]
        if isinstance(scripted, Exception):
            raise scripted
        assert scripted is not None
        return scripted

    async def rerank(self, plan: RerankPlan) -> RerankResult:
        self.rerank_plans.append(plan)
        if self.embed_gate is not None:
            await self.embed_gate.wait()
        scripted = self.scores
        if isinstance(scripted, Sequence) and not isinstance(scripted, RerankResult):
            scripted = scripted[len(self.rerank_plans) - 1]
        if isinstance(scripted, Exception):
            raise scripted
        assert scripted is not None
        return scripted


class FakeInferenceCall:
    """One run of a script."""

    def __init__(self, script: Iterable[Scripted], stopped: Finished | None) -> None:
        self._script = iter(script)
        self._stopped = stopped
        self._stop = asyncio.Event()
        self._allowed: asyncio.Event | None = None
        self.proceeded: list[int] = []
        self.closed = False

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_set()

    async def read(self) -> Event:
        if self._stop.is_set():
            return await self._after_stop()
        if self._allowed is not None and await self._stopped_before(self._allowed):
            return await self._after_stop()
        item = next(self._script)
        while isinstance(item, asyncio.Event):
            if await self._stopped_before(item):
                return await self._after_stop()
            item = next(self._script)
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, AttemptStarting):
            self._allowed = asyncio.Event()
        return item

    async def proceed(self, attempt: int) -> None:
        self.proceeded.append(attempt)
        assert self._allowed is not None
        self._allowed.set()

    def stop(self) -> None:
        self._stop.set()

    async def _stopped_before(self, gate: asyncio.Event) -> bool:
        waits = [asyncio.ensure_future(event.wait()) for event in (gate, self._stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self._stop.is_set()

    async def _after_stop(self) -> Event:
        if self._stopped is None:
            await asyncio.Event().wait()
        assert self._stopped is not None
        return self._stopped


class FakeUsageOutbox:
    """Usage events in memory. Writing fails while `failure` is set, and waits while `gate` is unset."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], RequestUsage] = {}
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.tries = 0

    async def write(self, usage: RequestUsage) -> None:
        self.tries += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.events.setdefault((usage.tenant_id, usage.event_id), usage)

    async def write_hits(self, together: Sequence[Hits]) -> None:
        self.tries += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        for event_id, tenant_id, hits in together:
            for place, hit in enumerate(hits):
                self.events.setdefault((tenant_id, f"{event_id}/{place}"), hit)

    async def find_pending(self, requests: Collection[RequestKey]) -> set[RequestKey]:
        if self.failure is not None:
            raise self.failure
        return {(one.tenant_id, one.request_id) for one in self.written} & set(requests)

    @property
    def written(self) -> list[RequestUsage]:
        return list(self.events.values())


class NoRunningJobs:
    """No job runs, but those in `requests`."""

    def __init__(self) -> None:
        self.requests: set[RequestKey] = set()

    async def running_requests(self, requests: Collection[RequestKey]) -> set[RequestKey]:
        return self.requests & set(requests)
