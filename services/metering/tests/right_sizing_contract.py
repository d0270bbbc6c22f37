"""Contract of what right-sizing saves. Subclasses give `stores`: those in memory or in Postgres."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from chassis.ids import new_id
from chassis.testing import FakeClock
from metering.prices.model import PriceCache, PriceRow, discounted
from metering.reservations.model import Bound, PricedReservation
from metering.settlement.model import (
    Attempt,
    Outcome,
    RightSized,
    SettlementCase,
    SettlementChanges,
    UsageEvent,
    attach_prices,
)
from metering.usage.model import BEGINNING, END, CacheUse, RightSizingSum, RightSizingUse, UsageSum
from values.money import ZERO, ClassPrices, NanoUsd
from values.usage import CacheOutcome, ExposureCause, TokenDetails, TokenUsage, UsageSource

from services.metering.tests.examples import NONE, UNKNOWN, a_reservation, expire_overdue
from services.metering.tests.fakes import DEFAULT_CAP, Stores

USED = TokenUsage(UsageSource.REPORTED, 101, 53, TokenDetails(cached_input=33, reasoning_output=40))
"""68 tokens of text read, 33 from the provider's cache, 13 written, 40 thoughts."""
PAID = 9
"""(68 · 37,013 + 33 · 5,001 + 53 · 111,119) ÷ 10⁶ = 8.57…, rounded up: thoughts cost what is written."""
INSTEAD = 1_212
"""(101 · 1,234,567 + 13 · 7,654,321 + 40 · 24,680,135) ÷ 10⁶ = 1,211.40…: the cache has no price of its own."""


class RightSizingContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def cheap(self, stores: Stores) -> PriceRow:
        classes = ClassPrices(cached_input=NanoUsd(5_001))
        return await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(37_013), NanoUsd(111_119), classes=classes)

    @pytest.fixture
    async def dear(self, stores: Stores) -> PriceRow:
        classes = ClassPrices(reasoning_output=NanoUsd(24_680_135))
        key = f"local/{new_id('m')}"
        return await stores.price_book.add(key, NanoUsd(1_234_567), NanoUsd(7_654_321), classes=classes)

    @pytest.fixture
    def prices(self, cheap: PriceRow, dear: PriceRow) -> tuple[PriceRow, PriceRow]:
        return cheap, dear

    async def test_an_easy_call_saves_what_its_tokens_would_have_cost_less_what_it_cost(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, cheap, dear)
        await settle(stores, sized(an_easy_event(priced, (cheap, USED)), dear, answer=1))

        (settlement,) = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert settlement.cost == PAID
        assert settlement.right_sizing == RightSized(dear.price.key, dear.price.version, NanoUsd(INSTEAD - PAID))
        assert settlement.saved == 0
        assert await stores.usage.right_sizing_sums(tenant, *today(settlement.settled_at), by_day=False) == [
            RightSizingSum(None, "gpt", 1, 1, NanoUsd(PAID), NanoUsd(INSTEAD - PAID))
        ]

    async def test_a_redelivered_event_saves_nothing_more(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, cheap, dear)
        event = sized(an_easy_event(priced, (cheap, USED)), dear, answer=1)
        first, *again = [await settle(stores, event) for _ in range(3)]

        assert {change.case for change in again} == {SettlementCase.REPEATED}
        (row,) = await sums(stores, tenant)
        assert (row.calls, row.cost, row.right_sizing_saved) == (1, PAID, INSTEAD - PAID)
        days = today(first.settlements[0].settled_at)
        (model,) = await stores.usage.right_sizing_sums(tenant, *days, by_day=True)
        assert model == RightSizingSum(days[0], "gpt", 1, 1, NanoUsd(PAID), NanoUsd(INSTEAD - PAID))

    async def test_an_escalated_call_costs_what_the_refused_answer_cost(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, cheap, dear)
        change = await settle(stores, sized(an_easy_event(priced, (cheap, USED), (dear, USED)), dear, answer=0))

        refused, answered = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert (refused.right_sizing, answered.right_sizing) == (
            RightSized(dear.price.key, dear.price.version, NanoUsd(-PAID)),
            None,
        )
        assert answered.cost == INSTEAD
        saved = {row.price_key: row.right_sizing_saved for row in await sums(stores, tenant)}
        assert saved == {cheap.price.key: -PAID, dear.price.key: 0}
        (model,) = await stores.usage.right_sizing_sums(tenant, *today(change.settlements[0].settled_at), by_day=False)
        assert model == RightSizingSum(None, "gpt", 1, 0, NanoUsd(PAID), NanoUsd(-PAID))

    async def test_requests_of_several_models_and_outcomes_add_up_in_parts_of_days_as_in_whole_ones(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        events = []
        for model, answer in (("gpt", 1), ("gpt", 0), ("other", 1)):
            priced = await reserve(stores, tenant, cheap, dear)
            events.append(sized(an_easy_event(priced, (cheap, USED)), dear, answer=answer, model=model))
        changes = await stores.settlements.settle([await attach(stores, event) for event in events])
        start = changes[0].settlements[0].settled_at

        total = 2 * INSTEAD - 3 * PAID
        for interval in ((BEGINNING, END), (start, start + timedelta(hours=1))):
            (row,) = await stores.usage.sums(tenant, *interval, by_day=False)
            assert (row.calls, row.cost, row.right_sizing_saved) == (3, 3 * PAID, total)
        models = await stores.usage.right_sizing_sums(tenant, *today(start), by_day=False)
        assert models == [
            RightSizingSum(None, "gpt", 2, 1, NanoUsd(2 * PAID), NanoUsd(INSTEAD - 2 * PAID)),
            RightSizingSum(None, "other", 1, 1, NanoUsd(PAID), NanoUsd(INSTEAD - PAID)),
        ]

    async def test_a_cheap_candidate_that_is_dearer_saves_a_negative_amount(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, dear, cheap)
        change = await settle(stores, sized(an_easy_event(priced, (dear, USED)), cheap, answer=1))

        assert change.settlements[0].right_sizing == RightSized(
            cheap.price.key, cheap.price.version, NanoUsd(PAID - INSTEAD)
        )

    async def test_prices_are_those_of_the_reservation_with_its_discount(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        half_cheap, half_dear = discounted(cheap, 50), discounted(dear, 50)
        priced = await reserve(stores, tenant, half_cheap, half_dear)
        await stores.price_book.add(dear.price.key, NanoUsd(1), NanoUsd(1))
        change = await settle(stores, sized(an_easy_event(priced, (half_cheap, USED)), half_dear, answer=1))

        (settlement,) = change.settlements
        assert settlement.right_sizing is not None
        assert settlement.right_sizing.price_version == f"{dear.price.version}~50"
        assert settlement.cost + settlement.right_sizing.saved == 606  # 605.70…, of prices that were rounded up

    @pytest.mark.parametrize(("usage", "outcome"), [(UNKNOWN, Outcome.EXPOSED), (NONE, Outcome.RELEASED)])
    async def test_a_call_of_which_no_tokens_are_known_saves_nothing(
        self, stores: Stores, prices: tuple[PriceRow, PriceRow], usage: TokenUsage, outcome: Outcome
    ) -> None:
        tenant, (cheap, dear) = new_id("ten_"), prices
        priced = await reserve(stores, tenant, cheap, dear)
        change = await settle(stores, sized(an_easy_event(priced, (cheap, usage)), dear, answer=1))

        (settlement,) = change.settlements
        assert (settlement.outcome, settlement.cost) == (outcome, 0)
        assert settlement.right_sizing == RightSized(dear.price.key, dear.price.version, ZERO)

    async def test_a_call_that_its_client_left_saves_by_the_tokens_that_were_counted(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, cheap, dear)
        counted = TokenUsage(UsageSource.COUNTED, 100, 7)
        event = an_easy_event(priced, (cheap, counted))
        left = replace(event.attempts[0], cause=ExposureCause.CLIENT)
        change = await settle(stores, sized(replace(event, attempts=(left,)), dear, answer=1))

        (settlement,) = change.settlements
        assert settlement.cost == 5  # 4.47…
        assert settlement.right_sizing is not None
        assert settlement.right_sizing.saved == 178 - 5  # 177.03…

    async def test_a_stale_answer_of_the_cache_is_counted_by_the_cache_alone(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, cheap, dear)
        free = discounted(dear, 100)
        event = sized(an_easy_event(priced, (cheap, UNKNOWN), (free, USED)), dear, answer=0)
        stale = replace(event.attempts[1], cache=CacheOutcome.STALE)
        event = replace(event, attempts=(event.attempts[0], stale), cache=CacheUse(CacheOutcome.STALE, "gpt", 2))
        change = await settle(stores, event)

        failed, answer = change.settlements
        assert failed.right_sizing == RightSized(dear.price.key, dear.price.version, ZERO)
        assert (answer.right_sizing, answer.saved) == (None, INSTEAD)

    async def test_an_alternative_without_a_price_does_not_hold_the_bill_up(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, cheap, dear)
        event = sized(an_easy_event(priced, (cheap, USED)), dear, answer=1)
        assert event.right_sizing is not None
        for use in (
            replace(event.right_sizing, price_version="prc_none"),
            replace(event.right_sizing, price_key=cheap.price.key),
        ):
            change = await settle(stores, replace(event, request_id=new_id("req_"), right_sizing=use))
            assert [(one.cost, one.right_sizing) for one in change.settlements] == [(PAID, None)]
        assert [row.right_sizing_saved for row in await sums(stores, tenant)] == [0]
        assert await stores.usage.right_sizing_sums(tenant, BEGINNING.date(), END.date(), by_day=False) == []

    async def test_a_late_event_counts_once_and_no_more_than_the_tenant_could_have_paid(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, cheap, dear, lease=timedelta(0))
        await expire_overdue(stores, 10)
        budget = await stores.budgets.read(tenant)
        await stores.budgets.set_cap(tenant, NanoUsd(budget.used + 100))
        change = await settle(stores, sized(an_easy_event(priced, (cheap, USED)), dear, answer=1))

        assert change.case is SettlementCase.LATE
        (settlement,) = change.settlements
        assert settlement.cost == PAID
        assert settlement.right_sizing is not None
        assert settlement.right_sizing.saved == 100 - PAID
        days = today(settlement.settled_at)
        (model,) = await stores.usage.right_sizing_sums(tenant, *days, by_day=False)
        assert (model.requests, model.answered, model.saved) == (1, 1, 100 - PAID)
        assert budget.cap == DEFAULT_CAP

    async def test_another_tenant_sees_no_savings(
        self, stores: Stores, tenant: str, cheap: PriceRow, dear: PriceRow
    ) -> None:
        priced = await reserve(stores, tenant, cheap, dear)
        await settle(stores, sized(an_easy_event(priced, (cheap, USED)), dear, answer=1))

        other = new_id("ten_")
        assert await stores.usage.right_sizing_sums(other, BEGINNING.date(), END.date(), by_day=False) == []


def today(settled_at: datetime) -> tuple[date, date]:
    """Return the only day of an interval that ends with it."""
    return settled_at.date(), settled_at.date()


async def sums(stores: Stores, tenant: str) -> list[UsageSum]:
    return list(await stores.usage.sums(tenant, BEGINNING, END, by_day=False))


async def reserve(
    stores: Stores, tenant: str, *rows: PriceRow, lease: timedelta = timedelta(minutes=10)
) -> PricedReservation:
    """Reserve for candidates with these prices, in the order to try them."""
    priced = a_reservation(tenant, rows[0], 0, lease=lease)
    bounds = tuple(Bound(row, 200, 100) for row in rows)
    request = replace(priced.request, bounds=[(row.price.key, 200, 100) for row in rows])
    priced = PricedReservation(request, bounds)
    await stores.reservations.reserve(priced)
    return priced


def an_easy_event(priced: PricedReservation, *calls: tuple[PriceRow, TokenUsage]) -> UsageEvent:
    """Make an event of calls at these prices, which the consumer has not priced yet."""
    attempts = tuple(
        Attempt(number, row.price.key, row.price.version, usage) for number, (row, usage) in enumerate(calls, 1)
    )
    return UsageEvent(priced.request.tenant_id, new_id("evt_"), priced.request.request_id, attempts, "prj_1", "key_1")


def sized(event: UsageEvent, alternative: PriceRow, *, answer: int, model: str = "gpt") -> UsageEvent:
    """Say that the first call of an event is of a cheap candidate."""
    price = alternative.price
    use = RightSizingUse(model, price.key, price.version, frozenset({1}), answer)
    return replace(event, right_sizing=use)


async def attach(stores: Stores, event: UsageEvent) -> UsageEvent:
    return await attach_prices(event, prices=PriceCache(stores.price_book, FakeClock(), timedelta(seconds=5)))


async def settle(stores: Stores, event: UsageEvent) -> SettlementChanges:
    """Price and settle an event, as the consumer does."""
    (change,) = await stores.settlements.settle([await attach(stores, event)])
    return change
