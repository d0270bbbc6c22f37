"""The sweeper frees nothing that can still be settled by an event."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from chassis.aio import periodic
from chassis.errors import Unavailable
from chassis.testing import FakeClock
from chassis.testing.logs import captured_lines
from metering.reservations.model import RequestRef, ReservationState
from metering.reservations.schedule import Sweeper
from metering.settlement.schedule import Expiry

from services.metering.tests.examples import EXPIRED_LEASE, a_price, a_reservation, an_event, metric, reported
from services.metering.tests.fakes import FakeStores

EXTENSION = timedelta(minutes=1)


@dataclass
class FakeStates:
    """What the orchestrator knows."""

    requests: set[str] = field(default_factory=set)
    down: bool = False

    async def known(self, requests: Sequence[RequestRef]) -> Sequence[bool]:
        if self.down:
            raise Unavailable("the orchestrator does not answer")
        return [request.request_id in self.requests for request in requests]


@dataclass
class FakeEvents:
    """Whether all usage events are settled."""

    settled: bool = True
    down: bool = False

    async def all_settled(self) -> bool:
        if self.down:
            raise Unavailable("kafka does not answer")
        return self.settled


@dataclass
class Fixture:
    clock: FakeClock = field(default_factory=FakeClock)
    states: FakeStates = field(default_factory=FakeStates)
    events: FakeEvents = field(default_factory=FakeEvents)

    def __post_init__(self) -> None:
        self.stores = FakeStores(self.clock)
        self.sweeper = Sweeper(
            self.stores,
            Expiry(self.stores),
            self.states,
            self.events,
            self.clock,
            max_batch=2,
            extension=EXTENSION,
        )

    async def reserve(self, *request_ids: str, lease: timedelta = EXPIRED_LEASE) -> None:
        for request_id in request_ids:
            await self.stores.reserve(a_reservation("ten_a", a_price(), 10, request_id=request_id, lease=lease))

    async def state(self, request_id: str) -> ReservationState:
        return (await self.stores.statement("ten_a", request_id)).reservation.state


@pytest.fixture
def fleet() -> Fixture:
    return Fixture()


async def test_the_sweeper_asks_for_another_run_until_nothing_is_overdue(fleet: Fixture) -> None:
    before = metric("expired_reservations_total")
    await fleet.reserve(*"abcde")
    await fleet.reserve("running", lease=timedelta(hours=1))

    assert [await fleet.sweeper.run_once() for _ in range(3)] == [True, True, False]

    assert metric("expired_reservations_total") == before + 5
    assert (await fleet.stores.read("ten_a")).held == 10


async def test_a_request_that_the_orchestrator_knows_keeps_its_money_and_gets_another_lease(fleet: Fixture) -> None:
    await fleet.reserve("running", "lost")
    fleet.states.requests = {"running"}

    await fleet.sweeper.run_once()

    assert (await fleet.state("running"), await fleet.state("lost")) == (
        ReservationState.HELD,
        ReservationState.EXPIRED,
    )
    assert (await fleet.stores.statement("ten_a", "running")).reservation.expires_at == fleet.clock.now() + EXTENSION
    assert (await fleet.stores.read("ten_a")).held == 10


@pytest.mark.parametrize("fault", ["orchestrator down", "kafka down", "events wait"])
async def test_without_a_certain_answer_nothing_is_freed_until_it_comes(fleet: Fixture, fault: str) -> None:
    await fleet.reserve("a", "b")
    fleet.states.down, fleet.events.down = fault == "orchestrator down", fault == "kafka down"
    fleet.events.settled = fault != "events wait"

    for _ in range(3):
        assert not await fleet.sweeper.run_once()
        assert metric("overdue_reservations") == 2
        assert (await fleet.stores.read("ten_a")).held == 20

    fleet.states.down = fleet.events.down = False
    fleet.events.settled = True
    await fleet.sweeper.run_once()
    assert metric("overdue_reservations") == 0
    assert (await fleet.stores.read("ten_a")).held == 0


async def test_known_requests_are_extended_while_kafka_is_away(fleet: Fixture) -> None:
    await fleet.reserve("running", "lost")
    fleet.states.requests, fleet.events.down = {"running"}, True

    await fleet.sweeper.run_once()

    assert await fleet.stores.overdue(10) == [("ten_a", "lost")]
    assert (await fleet.stores.read("ten_a")).held == 20


async def test_an_outage_is_a_log_line_a_minute(fleet: Fixture) -> None:
    await fleet.reserve("a")
    fleet.states.down = True
    with captured_lines() as lines:
        for _ in range(100):
            await fleet.sweeper.run_once()
            fleet.clock.advance(timedelta(seconds=1))
        fleet.states.down = False
        await fleet.sweeper.run_once()

    events = [line["event"] for line in lines]
    assert events.count("overdue_reservations_kept") == 2
    assert events.count("overdue_reservations_recovered") == 1


async def test_what_an_event_settles_between_the_question_and_the_expiry_is_not_expired(fleet: Fixture) -> None:
    priced = a_reservation("ten_a", a_price(), 10, request_id="a", lease=EXPIRED_LEASE)
    await fleet.stores.reserve(priced)

    async def settle_late() -> bool:
        await fleet.stores.settle([an_event(priced, reported(4))])
        return True

    fleet.events.all_settled = settle_late  # type: ignore[method-assign]
    await fleet.sweeper.run_once()

    assert await fleet.state("a") is ReservationState.SETTLED
    assert (await fleet.stores.read("ten_a")).spent == 4


async def test_the_sweeper_runs_again_after_a_failure_and_stops_when_asked(fleet: Fixture) -> None:
    stop = asyncio.Event()
    calls: list[int] = []

    async def overdue(limit: int) -> Sequence[RequestRef]:
        calls.append(limit)
        if len(calls) == 1:
            raise Unavailable("the database does not answer")
        stop.set()
        return []

    fleet.stores.overdue = overdue  # type: ignore[method-assign]
    async with asyncio.timeout(30):
        await periodic(timedelta(milliseconds=1), fleet.sweeper.run_once, "sweeper")(stop)
    assert len(calls) == 2
