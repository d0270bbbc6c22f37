"""Contract of announced attempts, exposure and its reconciliation. Subclasses give `stores`."""

from __future__ import annotations

import asyncio

import pytest
from chassis.ids import new_id
from metering.budgets.model import Budget, BudgetSpent, CapBelowSpend
from metering.exposures.model import (
    ExposureNotFound,
    ExposureReconciled,
    ReconcileRequest,
    SettlementFilter,
    SettlementPage,
)
from metering.ledger.model import Account
from metering.prices.model import PriceRow
from metering.reservations.model import (
    Bound,
    PricedReservation,
    RequestNotFound,
    ReservationClosed,
    ReserveRequest,
)
from metering.reservations.start_attempt import EndedAttempt, StartedAttempt
from metering.settlement.model import Attempt, Decision, Outcome, UsageEvent
from values.money import NanoUsd
from values.usage import ExposureCause, TokenUsage, UsageSource

from services.metering.tests.examples import (
    EXPIRED_LEASE,
    LONG_LEASE,
    UNKNOWN,
    a_reservation,
    an_event,
    expire_overdue,
    reported,
)
from services.metering.tests.fakes import Stores
from services.metering.tests.settlement_contract import balance, outcomes

CLIENT, PROVIDER, FLEET = ExposureCause.CLIENT, ExposureCause.PROVIDER, ExposureCause.FLEET


class AttemptsContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def rows(self, stores: Stores) -> tuple[PriceRow, PriceRow]:
        """A cheap model, and one that costs a hundred times as much."""
        cheap = await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(0))
        return cheap, await stores.price_book.add(f"far/{new_id('m')}", NanoUsd(100_000_000), NanoUsd(0))

    @pytest.fixture
    async def priced(self, stores: Stores, tenant: str, rows: tuple[PriceRow, PriceRow]) -> PricedReservation:
        """A reservation of 10 tokens of either model, overdue at once: 1,000 are held of 5,000."""
        await stores.budgets.set_cap(tenant, NanoUsd(5000))
        return await two_candidates(stores, tenant, rows)

    async def test_an_announced_attempt_raises_the_hold_once(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        start = started(priced, 2, ended(priced, 1, UNKNOWN))
        held = [(await stores.attempts.start_attempt(start)).held for _ in range(3)]

        assert held == [1010, 1010, 1010]
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(5000), held=NanoUsd(1010))
        again = await stores.reservations.reserve(priced)
        assert (again.repeated, again.reservation.held) == (True, 1010)

    async def test_without_room_an_attempt_is_refused_and_nothing_changes(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await stores.budgets.set_cap(tenant, NanoUsd(1009))
        with pytest.raises(BudgetSpent):
            await stores.attempts.start_attempt(started(priced, 2, ended(priced, 1, UNKNOWN)))

        assert await stores.budgets.read(tenant) == Budget(NanoUsd(1009), held=NanoUsd(1000))
        await expire_overdue(stores, 100)
        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [(1, Outcome.EXPOSED, 0, 10)]

    async def test_no_attempt_starts_on_a_closed_or_unknown_reservation(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await expire_overdue(stores, 100)
        with pytest.raises(ReservationClosed):
            await stores.attempts.start_attempt(started(priced, 2))
        with pytest.raises(RequestNotFound):
            await stores.attempts.start_attempt(StartedAttempt(tenant, new_id("req_"), 2, 0))

    async def test_when_the_lease_ends_each_announced_call_is_settled_on_its_own_candidate(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await stores.attempts.start_attempt(started(priced, 2, ended(priced, 1, reported(4))))
        await expire_overdue(stores, 100)

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [(1, Outcome.BILLED, 4, 0), (2, Outcome.EXPOSED, 0, 1000)]
        assert [row.price_key for row in statement.settlements] == [bound.row.price.key for bound in priced.bounds]
        assert [row.cause for row in statement.settlements] == [None, FLEET]
        assert balance(statement)[Account.EXPOSURE] == 1000
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(5000), spent=NanoUsd(4))

        await stores.settlements.settle([an_event_of(priced, (reported(4), PROVIDER), (reported(7), PROVIDER))])
        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [(1, Outcome.BILLED, 4, 0), (2, Outcome.BILLED, 700, 0)]
        assert Account.EXPOSURE not in balance(statement)
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(5000), spent=NanoUsd(704))

    async def test_an_event_settles_the_call_that_it_does_not_know_as_well(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await stores.attempts.start_attempt(started(priced, 2, ended(priced, 1, UNKNOWN)))
        event = an_event_of(priced, (UNKNOWN, PROVIDER))
        for _ in range(2):
            await stores.settlements.settle([event])

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert outcomes(statement) == [(1, Outcome.EXPOSED, 0, 10), (2, Outcome.EXPOSED, 0, 1000)]

    async def test_a_client_that_leaves_does_not_turn_its_cap_off(
        self, stores: Stores, tenant: str, rows: tuple[PriceRow, PriceRow]
    ) -> None:
        await stores.budgets.set_cap(tenant, NanoUsd(1000))
        for number in range(50):
            try:
                priced = await two_candidates(stores, tenant, rows, lease_is_over=False)
            except BudgetSpent:
                assert number == 1
                break
            await stores.settlements.settle([an_event_of(priced, (UNKNOWN, CLIENT), number=2)])
        else:
            raise AssertionError("the cap refused nothing")

        assert await stores.budgets.read(tenant) == Budget(NanoUsd(1000), exposed=NanoUsd(1000))
        assert (await stores.ledger.audit()).drift == 0
        with pytest.raises(CapBelowSpend):
            await stores.budgets.set_cap(tenant, NanoUsd(999))

    async def test_what_the_provider_or_the_fleet_causes_is_borne_by_the_operator(
        self, stores: Stores, tenant: str, rows: tuple[PriceRow, PriceRow]
    ) -> None:
        for cause in (PROVIDER, FLEET):
            priced = await two_candidates(stores, tenant, rows)
            await stores.settlements.settle([an_event_of(priced, (UNKNOWN, cause))])
        assert (await stores.budgets.read(tenant)).used == 0

    async def test_an_exposure_that_is_written_off_gives_the_cap_back_by_new_entries(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await stores.settlements.settle([an_event_of(priced, (UNKNOWN, CLIENT))])
        assert await listed(stores, tenant) == [(priced.request.request_id, 1)]

        for _ in range(2):
            done = await stores.exposures.reconcile(a_decision(priced, Decision.WRITTEN_OFF))
            assert done.settlement.reconciliation is not None
            assert done.settlement.reconciliation.key_id == "key_admin"

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert statement.settlements == (done.settlement,)
        assert balance(statement) == {Account.WRITTEN_OFF: 10, Account.SUSPENSE: -10}
        assert len(statement.transactions) == 2
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(5000))
        assert await listed(stores, tenant) == []
        with pytest.raises(ExposureReconciled):
            await stores.exposures.reconcile(a_decision(priced, Decision.BILLED))

    async def test_an_exposure_that_is_billed_is_spent(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await stores.settlements.settle([an_event_of(priced, (UNKNOWN, CLIENT))])
        await stores.exposures.reconcile(a_decision(priced, Decision.BILLED, 6))

        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        assert balance(statement) == {Account.RECEIVABLE: 6, Account.REVENUE: -6}
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(5000), spent=NanoUsd(6))
        assert (await stores.ledger.audit()).drift == 0

    async def test_a_bill_for_an_exposure_that_was_not_counted_has_to_fit_under_the_cap(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await stores.settlements.settle([an_event_of(priced, (UNKNOWN, PROVIDER))])
        await stores.budgets.set_cap(tenant, NanoUsd(9))
        with pytest.raises(BudgetSpent):
            await stores.exposures.reconcile(a_decision(priced, Decision.BILLED))
        await stores.exposures.reconcile(a_decision(priced, Decision.BILLED, 9))
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(9), spent=NanoUsd(9))

    async def test_what_is_not_exposed_cannot_be_reconciled(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await stores.settlements.settle([an_event_of(priced, (reported(3), PROVIDER))])
        with pytest.raises(ExposureNotFound):
            await stores.exposures.reconcile(a_decision(priced, Decision.WRITTEN_OFF))

    async def test_an_event_that_comes_after_the_decision_changes_nothing(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        await expire_overdue(stores, 100)
        await stores.exposures.reconcile(a_decision(priced, Decision.BILLED))
        before = await stores.settlements.statement(tenant, priced.request.request_id)
        await stores.settlements.settle([an_event_of(priced, (reported(3), PROVIDER))])

        after = await stores.settlements.statement(tenant, priced.request.request_id)
        assert (after.settlements, after.transactions) == (before.settlements, before.transactions)
        assert await stores.budgets.read(tenant) == Budget(NanoUsd(5000), spent=NanoUsd(10))

    async def test_usage_above_the_bound_is_flagged_listed_and_billed_at_the_bound(
        self, stores: Stores, tenant: str, priced: PricedReservation
    ) -> None:
        lie = TokenUsage(UsageSource.REPORTED, 10**9, 10**9)
        await stores.settlements.settle([an_event_of(priced, (lie, PROVIDER))])

        (row,) = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements
        assert (row.usage.known, row.reported) == ((10, 0), lie)
        assert (row.cost, row.exposed) == (10, 0)
        assert await listed(stores, tenant, SettlementFilter.USAGE_CLAMPED) == [(priced.request.request_id, 1)]

    async def test_exposures_are_listed_page_by_page_newest_first(
        self, stores: Stores, tenant: str, rows: tuple[PriceRow, PriceRow]
    ) -> None:
        made = [a_reservation(tenant, rows[0], 10) for _ in range(5)]
        for priced in made:
            await stores.reservations.reserve(priced)
            await stores.settlements.settle([an_event(priced, UNKNOWN)])
            await asyncio.sleep(0.002)

        found: list[str] = []
        page = SettlementPage(SettlementFilter.OPEN_EXPOSURE, 2)
        for more in (True, True, False):
            part, has_more = await stores.exposures.list(tenant, page)
            assert has_more is more
            found += [row.request_id for row in part]
            page = SettlementPage(page.filter, 2, part[-1].request_id, part[-1].settlement.attempt)
        assert sorted(found) == sorted(priced.request.request_id for priced in made)
        assert len(set(found)) == 5


async def two_candidates(
    stores: Stores, tenant: str, rows: tuple[PriceRow, PriceRow], *, lease_is_over: bool = True
) -> PricedReservation:
    bounds = tuple(Bound(row, 10, 0) for row in rows)
    lease = EXPIRED_LEASE if lease_is_over else LONG_LEASE
    request = ReserveRequest(tenant, new_id("req_"), [bound.requested for bound in bounds], lease)
    priced = PricedReservation(request, bounds)
    await stores.reservations.reserve(priced)
    return priced


def started(priced: PricedReservation, number: int, *before: EndedAttempt) -> StartedAttempt:
    return StartedAttempt(priced.request.tenant_id, priced.request.request_id, number, number - 1, before)


def ended(priced: PricedReservation, number: int, usage: TokenUsage) -> EndedAttempt:
    return EndedAttempt(number, priced.bounds[number - 1].row.price.key, usage, PROVIDER)


def an_event_of(priced: PricedReservation, *calls: tuple[TokenUsage, ExposureCause], number: int = 1) -> UsageEvent:
    """Make an event of calls of the candidates in their order, from that attempt and its candidate on."""
    attempts = tuple(
        Attempt(n, row.price.key, row.price.version, usage, row.price, cause)
        for n, (usage, cause) in enumerate(calls, number)
        for row in [priced.bounds[n - 1].row]
    )
    return UsageEvent(priced.request.tenant_id, new_id("evt_"), priced.request.request_id, attempts)


def a_decision(priced: PricedReservation, decision: Decision, billed: int | None = None) -> ReconcileRequest:
    amount = None if billed is None else NanoUsd(billed)
    return ReconcileRequest(
        priced.request.tenant_id, priced.request.request_id, 1, decision, amount, "key_admin", "as agreed"
    )


async def listed(
    stores: Stores, tenant: str, wanted: SettlementFilter = SettlementFilter.OPEN_EXPOSURE
) -> list[tuple[str, int]]:
    rows, _ = await stores.exposures.list(tenant, SettlementPage(wanted))
    return [(row.request_id, row.settlement.attempt) for row in rows]
