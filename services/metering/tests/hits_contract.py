"""Contract of cached answers that are settled together. Subclasses give `stores`: those in memory or in Postgres."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.ids import new_id
from metering.budgets.model import Budget
from metering.prices.model import PriceRow, discounted
from metering.reservations.model import RequestRef, ReservationState
from metering.settlement.hits import Hit, Hits
from metering.settlement.model import Outcome, SettlementCase, UsageEvent
from metering.usage.model import BEGINNING, END, CacheSum
from values.money import ZERO, NanoUsd
from values.usage import CacheOutcome

from services.metering.tests.examples import NONE, a_reservation, an_event, as_cached, reported
from services.metering.tests.fakes import DEFAULT_CAP, Stores


def an_answer(tenant: str, price: PriceRow, tokens: int, percent_off: int = 100) -> UsageEvent:
    """Make what stands for all requests that got an answer: it costs nothing unless less is taken off."""
    priced = a_reservation(tenant, discounted(price, percent_off), tokens)
    return as_cached(an_event(priced, reported(tokens)), price)


def requests(answer: int, count: int, start: int = 0) -> list[Hit]:
    return [Hit(f"req_{answer}_{number}", "prj_1", "key_1", answer) for number in range(start, start + count)]


class HitsContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def price(self, stores: Stores) -> PriceRow:
        return await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))

    async def test_each_hit_is_on_record_as_if_it_were_settled_by_itself(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        hits = Hits([an_answer(tenant, price, 120), an_answer(tenant, price, 7)], [*requests(0, 3), *requests(1, 2)])
        alone = hits.event_of(Hit("req_alone", "prj_1", "key_1", 0))
        changes = await stores.settlements.settle_hits(hits)
        await stores.settlements.settle([alone])

        assert [change.case for change in changes] == [SettlementCase.UNRESERVED] * 5
        expected = await stores.settlements.statement(tenant, "req_alone")
        for number in range(3):
            statement = await stores.settlements.statement(tenant, f"req_0_{number}")
            (settlement,), (same,) = statement.settlements, expected.settlements
            assert replace(settlement, settled_at=same.settled_at) == same
            assert statement.transactions == expected.transactions == ()
            assert statement.reservation.state is ReservationState.SETTLED
            assert (statement.reservation.held, statement.reservation.bounds) == (ZERO, ())
        (other,) = (await stores.settlements.statement(tenant, "req_1_1")).settlements
        assert (other.outcome, other.usage.input_tokens, other.saved) == (Outcome.BILLED, 7, 7)
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP)

    async def test_reports_count_each_hit(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        answers = [an_answer(tenant, price, 120), an_answer(tenant, price, 7)]
        await stores.settlements.settle_hits(Hits(answers, [*requests(0, 3), *requests(1, 2)]))
        today = (await stores.settlements.statement(tenant, "req_0_0")).settlements[0].settled_at.date()
        (usage,) = await stores.usage.sums(tenant, BEGINNING, END, by_day=False)
        (cache,) = await stores.usage.cache_sums(tenant, today, today, by_day=False)

        assert (usage.calls, usage.input_tokens, usage.cost) == (0, 0, 0)
        assert (usage.cache_hits, usage.saved) == (5, 3 * 120 + 2 * 7)
        assert cache == CacheSum(None, "smollm2", 5, 5, 0, 0, ZERO, NanoUsd(374))

    async def test_hits_that_are_delivered_again_change_nothing_and_new_ones_beside_them_are_settled(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        answers = [an_answer(tenant, price, 10)]
        await stores.settlements.settle_hits(Hits(answers, requests(0, 3)))
        before = await stores.settlements.statement(tenant, "req_0_1")
        changes = await stores.settlements.settle_hits(Hits(answers, [*requests(0, 5), *requests(0, 5)]))

        cases = sorted(change.case for change in changes)
        assert cases == [SettlementCase.REPEATED] * 8 + [SettlementCase.UNRESERVED] * 2
        assert await stores.settlements.statement(tenant, "req_0_1") == before
        (usage,) = await stores.usage.sums(tenant, BEGINNING, END, by_day=False)
        assert (usage.cache_hits, usage.saved) == (5, 50)

    async def test_hits_that_two_consumers_have_at_once_are_settled_once(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        answers = [an_answer(tenant, price, 10)]
        forth, back = requests(0, 40), requests(0, 40)[::-1]
        await asyncio.gather(
            *(stores.settlements.settle_hits(Hits(answers, hits)) for hits in (forth, back, forth, back))
        )
        (usage,) = await stores.usage.sums(tenant, BEGINNING, END, by_day=False)
        assert (usage.cache_hits, usage.saved) == (40, 400)

    async def test_a_request_whose_lease_expired_before_its_hit_came_is_closed(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        await stores.reservations.reserve(a_reservation(tenant, price, 300, request_id="req_0_0", lease=timedelta(0)))
        await stores.settlements.expire([RequestRef(tenant, "req_0_0")])
        hits = Hits([an_answer(tenant, price, 10)], requests(0, 2))
        cases = [sorted(one.case for one in await stores.settlements.settle_hits(hits)) for _ in range(2)]
        statement = await stores.settlements.statement(tenant, "req_0_0")

        assert cases == [[SettlementCase.LATE, SettlementCase.UNRESERVED], [SettlementCase.REPEATED] * 2]
        assert [(row.attempt, row.outcome, row.cache) for row in statement.settlements] == [
            (1, Outcome.BILLED, CacheOutcome.HIT)
        ]
        assert statement.reservation.state is ReservationState.SETTLED
        assert (await stores.budgets.read(tenant)).exposed == 0

    async def test_a_request_that_is_on_record_for_another_reason_gets_its_hit_beside_that(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300, request_id="req_0_0")
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([replace(an_event(priced), attempts=())])
        changes = await stores.settlements.settle_hits(Hits([an_answer(tenant, price, 10)], requests(0, 2)))
        statement = await stores.settlements.statement(tenant, "req_0_0")

        assert sorted(change.case for change in changes) == [SettlementCase.ADDED, SettlementCase.UNRESERVED]
        assert [(row.attempt, row.outcome, row.cache) for row in statement.settlements] == [
            (0, Outcome.RELEASED, None),
            (1, Outcome.BILLED, CacheOutcome.HIT),
        ]

    async def test_an_answer_that_is_not_free_after_all_is_paid(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        answers = [an_answer(tenant, price, 100, percent_off=50), an_answer(tenant, price, 10)]
        await stores.settlements.settle_hits(Hits(answers, [*requests(0, 2), *requests(1, 1)]))
        costs = [
            (await stores.settlements.statement(tenant, request_id)).settlements[0].cost
            for request_id in ("req_0_0", "req_0_1", "req_1_0")
        ]
        assert costs == [50, 50, 0]
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(100))

    async def test_an_answer_without_tokens_is_released(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        priced = a_reservation(tenant, price, 0, request_id="req_0_0")
        await stores.settlements.settle_hits(Hits([as_cached(an_event(priced, NONE), price)], requests(0, 1)))
        (settlement,) = (await stores.settlements.statement(tenant, "req_0_0")).settlements
        assert (settlement.outcome, settlement.cost, settlement.cache) == (Outcome.RELEASED, 0, CacheOutcome.HIT)

    async def test_tenants_share_a_batch_and_nothing_else(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        other = new_id("ten_")
        answers = [an_answer(tenant, price, 10), an_answer(other, price, 20)]
        hits = [Hit("req_same", "prj_1", "key_1", place) for place in (0, 1)]
        await stores.settlements.settle_hits(Hits(answers, hits))
        for owner, saved in ((tenant, 10), (other, 20)):
            (settlement,) = (await stores.settlements.statement(owner, "req_same")).settlements
            assert settlement.saved == saved
