"""Contract of settlement and expiry. Subclasses give `stores`: those in memory or in Postgres."""

from __future__ import annotations

import pytest
from chassis.ids import new_id
from metering.budgets.model import Budget
from metering.ledger.model import Account
from metering.prices.model import PriceRow, discounted
from metering.reservations.model import Reservation, ReservationClosed, ReservationState
from metering.settlement.model import Outcome, RequestStatement, SettlementCase
from metering.usage.model import BEGINNING, END, CacheSum
from values.money import NanoUsd
from values.usage import CacheOutcome

from services.metering.tests.examples import (
    EXPIRED_LEASE,
    NONE,
    UNKNOWN,
    a_reservation,
    an_event,
    as_cached,
    expire_overdue,
    reported,
)
from services.metering.tests.fakes import DEFAULT_CAP, Stores


def balance(statement: RequestStatement) -> dict[Account, int]:
    """Sum the entries of a request by account; leave out accounts that sum to zero."""
    totals: dict[Account, int] = {}
    for transaction in statement.transactions:
        assert sum(entry.amount for entry in transaction.entries) == 0
        for entry in transaction.entries:
            totals[entry.account] = totals.get(entry.account, 0) + entry.amount
    return {name: amount for name, amount in totals.items() if amount}


def outcomes(statement: RequestStatement) -> list[tuple[int, Outcome, int, int]]:
    """List (attempt, outcome, cost, exposed)."""
    return [(row.attempt, row.outcome, row.cost, row.exposed) for row in statement.settlements]


async def sweep(stores: Stores) -> list[Reservation]:
    """Expire all that is overdue."""
    swept: list[Reservation] = []
    while found := await expire_overdue(stores, 10):
        swept += found
    return swept


class SettlementContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def price(self, stores: Stores) -> PriceRow:
        return await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))

    async def test_a_bill_is_paid_and_the_rest_is_not_held_any_more(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        (change,) = await stores.settlements.settle([an_event(priced, reported(120))])
        statement = await stores.settlements.statement(tenant, priced.request.request_id)

        assert change.case is SettlementCase.SETTLED
        assert outcomes(statement) == [(1, Outcome.BILLED, 120, 0)]
        assert statement.settlements[0].price_version == price.price.version
        assert statement.reservation.state is ReservationState.SETTLED
        assert balance(statement) == {Account.RECEIVABLE: 120, Account.REVENUE: -120}
        assert {entry.price_version for transaction in statement.transactions for entry in transaction.entries} == {
            price.price.version
        }
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(120))

    async def test_a_replayed_event_changes_nothing(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        event = an_event(priced, reported(120), UNKNOWN)
        await stores.settlements.settle([event])
        before = await stores.settlements.statement(tenant, priced.request.request_id)
        (first, second) = await stores.settlements.settle([event, event])

        assert first.case is second.case is SettlementCase.REPEATED
        assert await stores.settlements.statement(tenant, priced.request.request_id) == before
        assert (await stores.budgets.read(tenant)).spent == 120

    async def test_two_events_of_one_request_in_one_batch_settle_each_call_once(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle(
            [an_event(priced, reported(100)), an_event(priced, reported(100), reported(70))]
        )

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [(1, Outcome.BILLED, 100, 0), (2, Outcome.BILLED, 70, 0)]
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(170))

    async def test_nothing_used_is_released_and_unknown_usage_is_exposed(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, NONE, UNKNOWN, reported(50))])

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [
            (1, Outcome.RELEASED, 0, 0),
            (2, Outcome.EXPOSED, 0, 300),
            (3, Outcome.BILLED, 50, 0),
        ]
        assert balance(statement) == {
            Account.RECEIVABLE: 50,
            Account.REVENUE: -50,
            Account.EXPOSURE: 300,
            Account.SUSPENSE: -300,
        }
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(50))

    async def test_a_request_without_calls_is_released_as_attempt_0(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced)])

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [(0, Outcome.RELEASED, 0, 0)]
        assert statement.transactions == ()
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP)

    async def test_what_exceeds_the_reservation_is_exposed(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        await stores.budgets.set_cap(tenant, NanoUsd(300))
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, reported(250), reported(250), reported(7))])

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [
            (1, Outcome.BILLED, 250, 0),
            (2, Outcome.BILLED, 50, 200),
            (3, Outcome.EXPOSED, 0, 7),
        ]
        assert balance(statement)[Account.EXPOSURE] == 207
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(300), spent=NanoUsd(300))

    async def test_a_reservation_whose_lease_expired_is_exposed_and_not_held_any_more(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        overdue, running = a_reservation(tenant, price, 300, lease=EXPIRED_LEASE), a_reservation(tenant, price, 40)
        await stores.reservations.reserve(overdue)
        await stores.reservations.reserve(running)
        swept = await sweep(stores)

        ours = [expired for expired in swept if expired.tenant_id == tenant]
        assert [expired.request_id for expired in ours] == [overdue.request.request_id]
        statement = await stores.settlements.statement(tenant, overdue.request.request_id)
        assert statement.reservation.state is ReservationState.EXPIRED
        assert outcomes(statement) == [(1, Outcome.EXPOSED, 0, 300)]
        assert balance(statement) == {Account.EXPOSURE: 300, Account.SUSPENSE: -300}
        assert (await stores.budgets.read(tenant)).held == 40
        with pytest.raises(ReservationClosed):
            await stores.reservations.reserve(overdue)

    async def test_a_late_event_takes_the_exposure_back_and_bills(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300, lease=EXPIRED_LEASE)
        await stores.reservations.reserve(priced)
        await sweep(stores)
        (change,) = await stores.settlements.settle([an_event(priced, reported(120))])

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert change.case is SettlementCase.LATE
        assert statement.reservation.state is ReservationState.SETTLED
        assert outcomes(statement) == [(1, Outcome.BILLED, 120, 0)]
        assert balance(statement) == {Account.RECEIVABLE: 120, Account.REVENUE: -120}
        assert len(statement.transactions) == 3
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(120))

    async def test_a_late_event_is_paid_only_as_far_as_the_budget_has_room(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        await stores.budgets.set_cap(tenant, NanoUsd(300))
        late = a_reservation(tenant, price, 300, lease=EXPIRED_LEASE)
        await stores.reservations.reserve(late)
        await sweep(stores)
        await stores.reservations.reserve(a_reservation(tenant, price, 250))
        await stores.settlements.settle([an_event(late, reported(120))])

        statement = await stores.settlements.statement(tenant, late.request.request_id)
        assert outcomes(statement) == [(1, Outcome.BILLED, 50, 70)]
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(300), spent=NanoUsd(50), held=NanoUsd(250))

    async def test_a_late_event_without_calls_takes_the_exposure_back(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300, lease=EXPIRED_LEASE)
        await stores.reservations.reserve(priced)
        await sweep(stores)
        await stores.settlements.settle([an_event(priced)])

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [(1, Outcome.RELEASED, 0, 0)]
        assert balance(statement) == {}
        assert len(statement.transactions) == 2

    async def test_an_event_that_never_reserved_is_billed_as_far_as_there_is_room(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        await stores.budgets.set_cap(tenant, NanoUsd(100))
        stray = a_reservation(tenant, price, 0)
        (change,) = await stores.settlements.settle([an_event(stray, reported(70), reported(70))])

        statement = await stores.settlements.statement(tenant, stray.request.request_id)
        assert change.case is SettlementCase.UNRESERVED
        assert (statement.reservation.state, statement.reservation.held) == (ReservationState.SETTLED, 0)
        assert outcomes(statement) == [(1, Outcome.BILLED, 70, 0), (2, Outcome.BILLED, 30, 40)]
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(100), spent=NanoUsd(100))
        with pytest.raises(ReservationClosed):
            await stores.reservations.reserve(stray)

    async def test_calls_of_a_later_event_share_what_was_held(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, reported(200))])
        (change,) = await stores.settlements.settle([an_event(priced, reported(200), first=2)])

        assert change.case is SettlementCase.ADDED
        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [(1, Outcome.BILLED, 200, 0), (2, Outcome.BILLED, 100, 100)]
        assert (await stores.budgets.read(tenant)).spent == 300

    async def test_a_bill_at_a_discount_is_paid_at_the_discounted_price_and_says_so(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        half = discounted(price, 50)
        priced = a_reservation(tenant, half, 300)
        assert priced.amount == 150
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, reported(121))])
        statement = await stores.settlements.statement(tenant, priced.request.request_id)

        assert outcomes(statement) == [(1, Outcome.BILLED, 61, 0)]
        assert statement.settlements[0].price_version == f"{price.price.version}~50"
        assert balance(statement) == {Account.RECEIVABLE: 61, Account.REVENUE: -61}
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(61))

    @pytest.mark.parametrize(("percent_off", "paid"), [(0, 121), (67, 40), (100, 0)])
    async def test_a_cached_answer_is_settled_once_and_is_no_call(
        self, stores: Stores, tenant: str, price: PriceRow, percent_off: int, paid: int
    ) -> None:
        row = discounted(price, percent_off)
        priced = a_reservation(tenant, row, 121)
        if paid:
            await stores.reservations.reserve(priced)
        event = as_cached(an_event(priced, reported(121)), price)
        (first,) = await stores.settlements.settle([event])
        (again,) = await stores.settlements.settle([event])
        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        today = statement.settlements[0].settled_at.date()
        (usage,) = await stores.usage.sums(tenant, BEGINNING, END, by_day=False)
        (cache,) = await stores.usage.cache_sums(tenant, today, today, by_day=False)

        assert first.case is (SettlementCase.SETTLED if paid else SettlementCase.UNRESERVED)
        assert again.case is SettlementCase.REPEATED
        assert outcomes(statement) == [(1, Outcome.BILLED, paid, 0)]
        assert (statement.settlements[0].cache, statement.settlements[0].saved) == (CacheOutcome.HIT, 121 - paid)
        assert sum(balance(statement).values()) == 0
        assert await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(paid))
        assert (usage.calls, usage.input_tokens, usage.cache_hits, usage.saved) == (0, 0, 1, 121 - paid)
        assert cache == CacheSum(None, "smollm2", 1, 1, 0, 0, NanoUsd(paid), NanoUsd(121 - paid))
