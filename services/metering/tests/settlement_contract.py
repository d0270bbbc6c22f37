"""What the books promise of the ends of requests. Subclasses give `books`: the fake or those in Postgres."""

from __future__ import annotations

import pytest
from chassis.ids import new_id
from metering.domain.books import RequestAccount
from metering.domain.budgets import Budget
from metering.domain.ledger import Account
from metering.domain.money import NanoUsd
from metering.domain.prices import Price
from metering.domain.reservations import ReservationClosed, State
from metering.domain.settlement import Outcome, Posting, Story

from services.metering.tests.examples import NONE, OVER, UNKNOWN, a_hold, an_event, reported
from services.metering.tests.fakes import DEFAULT_CAP, Books


def balance(account: RequestAccount) -> dict[Account, int]:
    """Sum the lines of a request by account, leaving out what sums to zero."""
    totals: dict[Account, int] = {}
    for transaction in account.transactions:
        assert sum(entry.amount for entry in transaction.entries) == 0
        for entry in transaction.entries:
            totals[entry.account] = totals.get(entry.account, 0) + entry.amount
    return {name: amount for name, amount in totals.items() if amount}


def outcomes(account: RequestAccount) -> list[tuple[int, Outcome, int, int]]:
    """List (attempt, outcome, cost, exposed)."""
    return [(row.attempt, row.outcome, row.cost, row.exposed) for row in account.settlements]


async def sweep(books: Books) -> list[Posting]:
    """Expire all that is overdue."""
    swept: list[Posting] = []
    while found := await books.ledger.expire(10):
        swept += found
    return swept


class EndingsContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def price(self, books: Books) -> Price:
        return await books.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))

    async def test_a_bill_is_paid_and_the_rest_of_the_hold_given_back(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        (posting,) = await books.ledger.settle([an_event(hold, reported(120))])
        account = await books.ledger.account(tenant, hold.request_id)

        assert posting.story is Story.SETTLED
        assert outcomes(account) == [(1, Outcome.BILLED, 120, 0)]
        assert account.settlements[0].price_version == price.version
        assert account.reservation.state is State.SETTLED
        assert balance(account) == {Account.RECEIVABLE: 120, Account.REVENUE: -120}
        assert {entry.price_version for line in account.transactions for entry in line.entries} == {price.version}
        assert await books.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(120))

    async def test_a_replayed_event_changes_nothing(self, books: Books, tenant: str, price: Price) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        event = an_event(hold, reported(120), UNKNOWN)
        await books.ledger.settle([event])
        before = await books.ledger.account(tenant, hold.request_id)
        (first, second) = await books.ledger.settle([event, event])

        assert first.story is second.story is Story.REPEATED
        assert await books.ledger.account(tenant, hold.request_id) == before
        assert (await books.budgets.read(tenant)).spent == 120

    async def test_two_events_of_one_request_in_one_batch_settle_each_call_once(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        await books.ledger.settle([an_event(hold, reported(100)), an_event(hold, reported(100), reported(70))])

        account = await books.ledger.account(tenant, hold.request_id)
        assert outcomes(account) == [(1, Outcome.BILLED, 100, 0), (2, Outcome.BILLED, 70, 0)]
        assert await books.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(170))

    async def test_nothing_used_is_released_and_unknown_usage_is_exposed(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        await books.ledger.settle([an_event(hold, NONE, UNKNOWN, reported(50))])

        account = await books.ledger.account(tenant, hold.request_id)
        assert outcomes(account) == [
            (1, Outcome.RELEASED, 0, 0),
            (2, Outcome.EXPOSED, 0, 300),
            (3, Outcome.BILLED, 50, 0),
        ]
        assert balance(account) == {
            Account.RECEIVABLE: 50,
            Account.REVENUE: -50,
            Account.EXPOSURE: 300,
            Account.SUSPENSE: -300,
        }
        assert await books.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(50))

    async def test_a_request_without_calls_is_released_as_attempt_0(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        await books.ledger.settle([an_event(hold)])

        account = await books.ledger.account(tenant, hold.request_id)
        assert outcomes(account) == [(0, Outcome.RELEASED, 0, 0)]
        assert account.transactions == ()
        assert await books.budgets.read(tenant) == Budget(DEFAULT_CAP)

    async def test_what_exceeds_the_hold_is_the_house_s(self, books: Books, tenant: str, price: Price) -> None:
        await books.budgets.set_cap(tenant, NanoUsd(300))
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        await books.ledger.settle([an_event(hold, reported(250), reported(250), reported(7))])

        account = await books.ledger.account(tenant, hold.request_id)
        assert outcomes(account) == [
            (1, Outcome.BILLED, 250, 0),
            (2, Outcome.BILLED, 50, 200),
            (3, Outcome.EXPOSED, 0, 7),
        ]
        assert balance(account)[Account.EXPOSURE] == 207
        assert await books.budgets.read(tenant) == Budget(NanoUsd(300), spent=NanoUsd(300))

    async def test_a_hold_whose_lease_ran_out_is_given_back_and_exposed(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        overdue, running = a_hold(tenant, price, 300, lease=OVER), a_hold(tenant, price, 40)
        await books.reservations.hold(overdue)
        await books.reservations.hold(running)
        swept = await sweep(books)

        ours = [posting for posting in swept if posting.reservation.tenant_id == tenant]
        assert [posting.reservation.request_id for posting in ours] == [overdue.request_id]
        account = await books.ledger.account(tenant, overdue.request_id)
        assert account.reservation.state is State.EXPIRED
        assert outcomes(account) == [(0, Outcome.EXPOSED, 0, 300)]
        assert balance(account) == {Account.EXPOSURE: 300, Account.SUSPENSE: -300}
        assert (await books.budgets.read(tenant)).held == 40
        with pytest.raises(ReservationClosed):
            await books.reservations.hold(overdue)

    async def test_a_late_event_takes_the_exposure_back_and_bills(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        hold = a_hold(tenant, price, 300, lease=OVER)
        await books.reservations.hold(hold)
        await sweep(books)
        (posting,) = await books.ledger.settle([an_event(hold, reported(120))])

        account = await books.ledger.account(tenant, hold.request_id)
        assert posting.story is Story.LATE
        assert account.reservation.state is State.SETTLED
        assert outcomes(account) == [(0, Outcome.RELEASED, 0, 0), (1, Outcome.BILLED, 120, 0)]
        assert balance(account) == {Account.RECEIVABLE: 120, Account.REVENUE: -120}
        assert len(account.transactions) == 3
        assert await books.budgets.read(tenant) == Budget(DEFAULT_CAP, spent=NanoUsd(120))

    async def test_a_late_event_is_paid_only_as_far_as_the_budget_has_room(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        await books.budgets.set_cap(tenant, NanoUsd(300))
        late = a_hold(tenant, price, 300, lease=OVER)
        await books.reservations.hold(late)
        await sweep(books)
        await books.reservations.hold(a_hold(tenant, price, 250))
        await books.ledger.settle([an_event(late, reported(120))])

        account = await books.ledger.account(tenant, late.request_id)
        assert outcomes(account)[1:] == [(1, Outcome.BILLED, 50, 70)]
        assert await books.budgets.read(tenant) == Budget(NanoUsd(300), spent=NanoUsd(50), held=NanoUsd(250))

    async def test_a_late_event_without_calls_takes_the_exposure_back(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        hold = a_hold(tenant, price, 300, lease=OVER)
        await books.reservations.hold(hold)
        await sweep(books)
        await books.ledger.settle([an_event(hold)])

        account = await books.ledger.account(tenant, hold.request_id)
        assert outcomes(account) == [(0, Outcome.RELEASED, 0, 0)]
        assert balance(account) == {}
        assert len(account.transactions) == 2

    async def test_an_event_that_never_reserved_is_billed_as_far_as_there_is_room(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        await books.budgets.set_cap(tenant, NanoUsd(100))
        stray = a_hold(tenant, price, 0)
        (posting,) = await books.ledger.settle([an_event(stray, reported(70), reported(70))])

        account = await books.ledger.account(tenant, stray.request_id)
        assert posting.story is Story.UNRESERVED
        assert (account.reservation.state, account.reservation.held) == (State.SETTLED, 0)
        assert outcomes(account) == [(1, Outcome.BILLED, 70, 0), (2, Outcome.BILLED, 30, 40)]
        assert await books.budgets.read(tenant) == Budget(NanoUsd(100), spent=NanoUsd(100))
        with pytest.raises(ReservationClosed):
            await books.reservations.hold(stray)

    async def test_calls_told_of_later_share_what_was_held(self, books: Books, tenant: str, price: Price) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        await books.ledger.settle([an_event(hold, reported(200))])
        (posting,) = await books.ledger.settle([an_event(hold, reported(200), first=2)])

        assert posting.story is Story.ADDED
        account = await books.ledger.account(tenant, hold.request_id)
        assert outcomes(account) == [(1, Outcome.BILLED, 200, 0), (2, Outcome.BILLED, 100, 100)]
        assert (await books.budgets.read(tenant)).spent == 300
