"""Contract of cached answers that cost something: reserved together, settled together, billed once whatever happens.

Subclasses give `stores`: those in memory or in Postgres.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.errors import ArgosyError
from chassis.ids import new_id
from metering.budgets.model import Budget, BudgetSpent
from metering.prices.model import PriceRow, discounted
from metering.reservations.model import (
    FIRST_ATTEMPT,
    AnnouncedAttempt,
    RequestIdReused,
    ReservationClosed,
    ReservationState,
)
from metering.reservations.reserve_hits import HitReservation, PricedHit
from metering.settlement.hits import Hit, Hits
from metering.settlement.model import Outcome, SettlementCase, UsageEvent
from metering.usage.model import BEGINNING, END, CacheSum
from values.money import ZERO, ClassPrices, NanoUsd
from values.usage import CacheOutcome, TokenUsage

from services.metering.tests.examples import (
    EXPIRED_LEASE,
    LONG_LEASE,
    NONE,
    a_reservation,
    an_event,
    as_cached,
    expire_overdue,
    reported,
    with_classes,
)
from services.metering.tests.fakes import DEFAULT_CAP, Stores

PERCENT_OFF = 50


class Given:
    """Requests of a tenant that get the same answer."""

    def __init__(self, tenant: str, price: PriceRow, usage: TokenUsage) -> None:
        input_tokens, output_tokens = usage.known or (0, 0)
        self.tenant = tenant
        row = discounted(price, PERCENT_OFF)
        priced = a_reservation(tenant, row, input_tokens)
        self.bound = replace(priced.bounds[0], output_tokens=output_tokens)
        self.event = as_cached(an_event(priced, usage), price)
        attempt = AnnouncedAttempt(FIRST_ATTEMPT, 0, usage, cache=CacheOutcome.HIT)
        self.answer = PricedHit(tenant, self.bound, attempt)

    async def reserve(
        self, stores: Stores, *requests: str, lease: timedelta = LONG_LEASE
    ) -> tuple[Mapping[str, Budget], Mapping[int, ArgosyError]]:
        hits = {place: HitReservation(one, 0, "prj_1", "key_1", "usr_1") for place, one in enumerate(requests)}
        return await stores.hits.reserve_hits({0: self.answer}, hits, lease)

    def hits(self, *requests: str) -> Hits:
        return Hits([self.event], [Hit(one, "prj_1", "key_1", 0) for one in requests])

    def release(self, request_id: str) -> UsageEvent:
        """Make the event of an answer that was not given."""
        attempt = replace(self.event.attempts[0], usage=NONE, price=None, full_price=None, cache=None)
        return replace(self.event, event_id=new_id("evt_"), request_id=request_id, attempts=(attempt,), cache=None)


def names(count: int) -> list[str]:
    return [f"req_{number}" for number in range(count)]


class HeldHitsContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def price(self, stores: Stores) -> PriceRow:
        return await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))

    @pytest.fixture
    def given(self, tenant: str, price: PriceRow) -> Given:
        return Given(tenant, price, reported(101))  # 50.5 nano-USD, rounded up

    async def test_hits_that_hold_their_price_are_settled_as_each_by_itself(self, stores: Stores, given: Given) -> None:
        budgets, refused = await given.reserve(stores, *names(3), "req_alone")
        assert (budgets, refused) == ({given.tenant: Budget(DEFAULT_CAP, held=NanoUsd(4 * 51))}, {})
        changes = await stores.settlements.settle_hits(given.hits(*names(3)))
        await stores.settlements.settle([replace(given.event, request_id="req_alone")])

        assert [change.case for change in changes] == [SettlementCase.SETTLED] * 3
        expected = await stores.settlements.statement(given.tenant, "req_alone")
        ids = set()
        for name in names(3):
            statement = await stores.settlements.statement(given.tenant, name)
            (settlement,), (same,) = statement.settlements, expected.settlements
            assert replace(settlement, settled_at=same.settled_at) == same
            assert (settlement.cost, settlement.saved, settlement.cache) == (51, 50, CacheOutcome.HIT)
            (transaction,), (other,) = statement.transactions, expected.transactions
            assert (transaction.kind, transaction.entries) == (other.kind, other.entries)
            assert transaction.created_at == settlement.settled_at
            assert statement.reservation.state is ReservationState.SETTLED
            ids.add(transaction.transaction_id)
        assert len(ids) == 3
        assert await stores.budgets.read(given.tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(4 * 51))
        audit = await stores.ledger.audit()
        assert (audit.imbalance, audit.drift) == (0, 0)

    async def test_reports_count_each_hit_that_is_paid(self, stores: Stores, given: Given) -> None:
        await given.reserve(stores, *names(5))
        await stores.settlements.settle_hits(given.hits(*names(5)))
        (usage,) = await stores.usage.sums(given.tenant, BEGINNING, END, by_day=False)
        today = (await stores.settlements.statement(given.tenant, "req_0")).settlements[0].settled_at.date()
        (cache,) = await stores.usage.cache_sums(given.tenant, today, today, by_day=False)

        assert (usage.calls, usage.input_tokens, usage.cost, usage.cache_hits, usage.saved) == (0, 0, 255, 5, 250)
        assert cache == CacheSum(None, "smollm2", 5, 5, 0, 0, NanoUsd(255), NanoUsd(250))

    async def test_what_is_delivered_again_is_not_billed_again(self, stores: Stores, given: Given) -> None:
        await given.reserve(stores, *names(4))
        await stores.settlements.settle_hits(given.hits("req_0", "req_1"))
        changes = await stores.settlements.settle_hits(given.hits(*names(4), "req_0", "req_2"))

        assert sorted(change.case for change in changes) == [SettlementCase.REPEATED] * 4 + [SettlementCase.SETTLED] * 2
        assert await stores.budgets.read(given.tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(4 * 51))

    async def test_two_consumers_and_two_reservers_at_once_bill_each_hit_once(
        self, stores: Stores, given: Given
    ) -> None:
        forth, back = names(40), names(40)[::-1]
        await asyncio.gather(*(given.reserve(stores, *order) for order in (forth, back, forth, back)))
        assert await stores.budgets.read(given.tenant) == Budget(DEFAULT_CAP, held=NanoUsd(40 * 51))
        await asyncio.gather(
            *(stores.settlements.settle_hits(given.hits(*order)) for order in (forth, back, forth, back))
        )
        assert await stores.budgets.read(given.tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(40 * 51))

    async def test_a_budget_is_spent_exactly_and_no_further(self, stores: Stores, given: Given) -> None:
        cap = NanoUsd(51 * 7 + 50)
        await stores.budgets.set_cap(given.tenant, cap)
        replicas = [given.reserve(stores, *(f"req_{replica}_{n}" for n in range(5))) for replica in range(2)]
        refusals = [refused for _, refused in await asyncio.gather(*replicas)]

        assert sum(map(len, refusals)) == 3
        assert all(isinstance(error, BudgetSpent) for refused in refusals for error in refused.values())
        all_hits = [f"req_{replica}_{n}" for replica in range(2) for n in range(5) if n not in refusals[replica]]
        await stores.settlements.settle_hits(given.hits(*all_hits))
        assert await stores.budgets.read(given.tenant) == Budget(cap, spent=NanoUsd(51 * 7))

    async def test_reserving_again_holds_nothing_more_and_what_is_closed_is_refused(
        self, stores: Stores, given: Given
    ) -> None:
        await given.reserve(stores, "req_0", "req_1")
        await stores.settlements.settle_hits(given.hits("req_0"))
        budgets, refused = await given.reserve(stores, "req_0", "req_1", "req_2", "req_2")

        assert budgets == {given.tenant: Budget(DEFAULT_CAP, spent=NanoUsd(51), held=NanoUsd(102))}
        assert list(refused) == [0]
        assert isinstance(refused[0], ReservationClosed)

    async def test_a_request_that_reserved_something_else_gets_no_hit(
        self, stores: Stores, given: Given, price: PriceRow
    ) -> None:
        await stores.reservations.reserve(a_reservation(given.tenant, price, 10, request_id="req_0"))
        _, refused = await given.reserve(stores, "req_0")
        assert isinstance(refused[0], RequestIdReused)

    async def test_a_hit_of_which_no_event_tells_is_billed_when_its_lease_is_over(
        self, stores: Stores, given: Given
    ) -> None:
        await given.reserve(stores, *names(3), lease=EXPIRED_LEASE)
        assert len(await expire_overdue(stores, 10)) == 3
        assert await stores.budgets.read(given.tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(3 * 51))
        (settlement,) = (await stores.settlements.statement(given.tenant, "req_0")).settlements
        assert (settlement.outcome, settlement.cost, settlement.exposed) == (Outcome.BILLED, 51, 0)
        assert settlement.cache is CacheOutcome.HIT

        changes = await stores.settlements.settle_hits(given.hits(*names(3)))
        assert not any(change.settlements for change in changes)
        assert await stores.budgets.read(given.tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(3 * 51))
        (usage,) = await stores.usage.sums(given.tenant, BEGINNING, END, by_day=False)
        assert (usage.calls, usage.input_tokens, usage.cache_hits, usage.cost) == (0, 0, 3, 153)

    async def test_an_answer_that_was_not_given_is_released_whichever_comes_first(
        self, stores: Stores, given: Given
    ) -> None:
        await given.reserve(stores, "req_0")
        await stores.settlements.settle([given.release("req_0"), given.release("req_1")])
        _, refused = await given.reserve(stores, "req_1")

        assert isinstance(refused[0], ReservationClosed)
        for name in ("req_0", "req_1"):
            (settlement,) = (await stores.settlements.statement(given.tenant, name)).settlements
            assert (settlement.outcome, settlement.cost) == (Outcome.RELEASED, 0)
        assert await stores.budgets.read(given.tenant) == Budget(DEFAULT_CAP)

    async def test_what_a_hit_holds_above_its_price_is_free_again(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        classes = with_classes(price, ClassPrices(cached_input=NanoUsd(3_000_000)))
        given = Given(tenant, classes, reported(100, cached=0))
        dear = given.bound.cost
        assert dear > 50
        budgets, _ = await given.reserve(stores, "req_0", "req_1")
        assert budgets[tenant].held == 2 * dear
        await stores.settlements.settle_hits(given.hits("req_0", "req_1"))
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(100))

    async def test_hits_that_hold_another_price_than_that_of_their_record_are_settled_by_themselves(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        cheap, dear = Given(tenant, price, reported(10)), Given(tenant, price, reported(100))
        await cheap.reserve(stores, "req_0")
        await dear.reserve(stores, "req_1")
        await stores.settlements.settle_hits(dear.hits("req_0", "req_1", "req_2"))

        costs = [(await stores.settlements.statement(tenant, name)).settlements[0].cost for name in names(3)]
        assert costs == [5, 50, 50]  # the first is taken at its bound, the last reserved nothing
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(105))

    async def test_tenants_pay_for_their_own_hits(self, stores: Stores, given: Given, price: PriceRow) -> None:
        other = Given(new_id("ten_"), price, reported(10))
        hits = {place: HitReservation("req_same", place, "", "", "") for place in (0, 1)}
        budgets, refused = await stores.hits.reserve_hits({0: given.answer, 1: other.answer}, hits, LONG_LEASE)
        assert not refused
        assert {tenant: budget.held for tenant, budget in budgets.items()} == {given.tenant: 51, other.tenant: 5}
        records = Hits([given.event, other.event], [Hit("req_same", "", "", place) for place in (0, 1)])
        await stores.settlements.settle_hits(records)
        assert await stores.budgets.read(given.tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(51))
        assert await stores.budgets.read(other.tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(5), held=ZERO)
