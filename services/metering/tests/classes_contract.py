"""Contract of prices and costs by class of tokens. Subclasses give `stores`: those in memory or in Postgres."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chassis.ids import new_id
from metering.budgets.model import Budget
from metering.prices.model import PriceRow, discounted
from metering.reservations.model import Bound, PricedReservation
from metering.reservations.start_attempt import EndedAttempt, StartedAttempt
from metering.settlement.model import ANNOUNCED, Outcome
from metering.usage.model import BEGINNING, END
from values.money import ZERO, ClassCost, ClassPrices, NanoUsd
from values.usage import AbsentClasses, CacheOutcome, ExposureCause, TokenClass, TokenDetails, TokenUsage, UsageSource

from services.metering.tests.examples import EXPIRED_LEASE, a_reservation, an_event, as_cached, expire_overdue, reported
from services.metering.tests.fakes import DEFAULT_CAP, Stores

CLASSES = ClassPrices(
    cached_input=NanoUsd(100_000), cache_write=NanoUsd(1_250_000), audio_input=NanoUsd(8_000_000), reasoning_output=ZERO
)
"""Beside 1 nano-USD per token read and 2 per token written: 0.1, 1.25 (an hour, too), 8, and nothing for thoughts."""
USED = TokenUsage(UsageSource.REPORTED, 100, 50, TokenDetails(33, 20, 10, 5, 2, 40, 1))
SHARES = (
    ClassCost(TokenClass.TEXT_INPUT, 30, NanoUsd(30)),
    ClassCost(TokenClass.CACHED_INPUT, 33, NanoUsd(4)),  # 3.3, and the running sum is rounded up
    ClassCost(TokenClass.CACHE_WRITE, 20, NanoUsd(25)),
    ClassCost(TokenClass.CACHE_WRITE_1H, 10, NanoUsd(12)),
    ClassCost(TokenClass.AUDIO_INPUT, 5, NanoUsd(40)),
    ClassCost(TokenClass.IMAGE_INPUT, 2, NanoUsd(2)),
    ClassCost(TokenClass.TEXT_OUTPUT, 9, NanoUsd(18)),
    ClassCost(TokenClass.REASONING_OUTPUT, 40, NanoUsd(0)),
    ClassCost(TokenClass.AUDIO_OUTPUT, 1, NanoUsd(2)),
)
COST = 133


class ClassesContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def price(self, stores: Stores) -> PriceRow:
        key = f"local/{new_id('m')}"
        return await stores.price_book.add(key, NanoUsd(1_000_000), NanoUsd(2_000_000), classes=CLASSES)

    async def test_prices_of_classes_are_in_the_book_its_versions_and_its_history(
        self, stores: Stores, price: PriceRow
    ) -> None:
        flat = await stores.price_book.add(price.price.key, NanoUsd(3), NanoUsd(4))

        assert price.price.classes == CLASSES
        assert flat.price.classes is None
        assert await stores.price_book.by_version([price.price.version]) == [price]
        history = await stores.price_book.versions(price.price.key, 10, "")
        assert [one.row.price.classes for one in history] == [None, CLASSES]
        in_force = {row.price.key: row for row in await stores.price_book.in_force()}
        assert in_force[price.price.key] == flat

    async def test_a_call_is_billed_by_class_and_its_shares_are_kept(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = reserve(tenant, price, 100, 50)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, USED)])

        (settlement,) = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert (settlement.outcome, settlement.cost, settlement.exposed) == (Outcome.BILLED, COST, 0)
        assert settlement.usage == USED
        assert settlement.classes == SHARES
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(COST))

    @pytest.mark.parametrize("by_day", [False, True])
    async def test_sums_of_usage_share_tokens_and_cost_by_class(
        self, stores: Stores, tenant: str, price: PriceRow, by_day: bool
    ) -> None:
        for usage in (USED, USED, TokenUsage(UsageSource.COUNTED, 7, 3)):
            priced = reserve(tenant, price, 100, 50)
            await stores.reservations.reserve(priced)
            await stores.settlements.settle([an_event(priced, usage)])

        (row,) = await stores.usage.sums(tenant, BEGINNING, END, by_day=by_day)
        classes = {one.token_class: (one.tokens, one.cost) for one in row.classes}
        assert classes == {one.token_class: (2 * one.tokens, 2 * one.cost) for one in SHARES} | {
            TokenClass.TEXT_INPUT: (67, 67),
            TokenClass.TEXT_OUTPUT: (21, 42),
        }
        assert sum(one.cost for one in row.classes) == row.cost == 2 * COST + 13
        assert sum(one.tokens for one in row.classes) == row.input_tokens + row.output_tokens

    async def test_the_part_of_a_day_is_shared_as_the_whole_is(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = reserve(tenant, price, 100, 50)
        await stores.reservations.reserve(priced)
        (change,) = await stores.settlements.settle([an_event(priced, USED)])
        now = change.settlements[0].settled_at

        (row,) = await stores.usage.sums(tenant, now, now.replace(year=now.year + 1), by_day=False)
        assert row.classes == SHARES

    async def test_a_cached_answer_has_a_cost_by_class_and_saves_by_the_same_prices(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        half = discounted(price, 50)
        priced = reserve(tenant, half, 100, 50)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([as_cached(an_event(priced, USED), price)])

        (settlement,) = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert settlement.cache is CacheOutcome.HIT
        assert settlement.cost + settlement.saved == COST
        (row,) = await stores.usage.sums(tenant, BEGINNING, END, by_day=False)
        assert (row.calls, row.input_tokens, row.cost) == (0, 0, settlement.cost)
        assert sum(one.cost for one in row.classes) == row.cost
        assert sum(one.tokens for one in row.classes) == 0

    async def test_a_reservation_holds_the_dearest_class_that_can_occur(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        everything = await stores.reservations.reserve(reserve(tenant, price, 100, 50))
        no_sound = await stores.reservations.reserve(reserve(tenant, price, 100, 50, AbsentClasses(False, True, True)))
        text = await stores.reservations.reserve(reserve(tenant, price, 100, 50, AbsentClasses(True, True, True)))

        held = [result.reservation.held for result in (everything, no_sound, text)]
        assert held == [100 * 8 + 50 * 2, 125 + 50 * 2, 100 + 50 * 2]

    async def test_a_repeated_reservation_is_the_same_with_its_classes(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = reserve(tenant, price, 100, 50, AbsentClasses(True, False, True))
        first = await stores.reservations.reserve(priced)
        second = await stores.reservations.reserve(priced)

        assert second.repeated
        assert second.reservation == first.reservation
        assert second.reservation.bounds[0].cost == first.reservation.held

    async def test_a_class_that_was_not_held_for_costs_the_tenant_no_more_than_was_held(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = reserve(tenant, price, 100, 0, AbsentClasses(True, True, True))
        await stores.reservations.reserve(priced)
        spoken = TokenUsage(UsageSource.REPORTED, 100, 0, TokenDetails(audio_input=100))
        await stores.settlements.settle([an_event(priced, spoken)])

        (settlement,) = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert (settlement.cost, settlement.exposed) == (100, 700)
        assert settlement.classes == (ClassCost(TokenClass.AUDIO_INPUT, 100, NanoUsd(100)),)
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(100))

    async def test_usage_above_the_bound_is_billed_at_the_bound_by_class(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = reserve(tenant, price, 50, 0)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, USED)])

        (settlement,) = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert settlement.usage == TokenUsage(UsageSource.REPORTED, 50, 0, TokenDetails(33, 17))
        assert settlement.reported is not None
        assert settlement.reported.known == USED.known
        assert sum(one.cost for one in settlement.classes) == settlement.cost == 25

    async def test_what_was_announced_is_settled_by_class_when_the_lease_is_over(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = reserve(tenant, price, 100, 50)
        priced = replace(priced, request=replace(priced.request, lease=EXPIRED_LEASE))
        await stores.reservations.reserve(priced)
        ended = EndedAttempt(1, price.price.key, USED, ExposureCause.FLEET)
        await stores.attempts.start_attempt(StartedAttempt(tenant, priced.request.request_id, 2, 0, [ended]))
        await expire_overdue(stores, 100)

        first, second = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert (first.event_id, first.outcome, first.cost) == (ANNOUNCED, Outcome.BILLED, COST)
        assert (first.usage, first.classes) == (USED, SHARES)
        assert (second.outcome, second.classes) == (Outcome.EXPOSED, ())

    async def test_text_alone_has_shares_too(self, stores: Stores, tenant: str) -> None:
        price = await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))
        priced = a_reservation(tenant, price, 30)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, reported(12))])

        (settlement,) = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert settlement.classes == (ClassCost(TokenClass.TEXT_INPUT, 12, NanoUsd(12)),)


def reserve(
    tenant: str, price: PriceRow, read: int, written: int, absent: AbsentClasses | None = None
) -> PricedReservation:
    """Ask for that many tokens, of all classes unless some are absent."""
    priced = a_reservation(tenant, price, 0)
    request = replace(priced.request, bounds=[(price.price.key, read, written)])
    bound = Bound(price, read, written) if absent is None else Bound(price, read, written, absent)
    return PricedReservation(request, (bound,))
