"""What the books promise, but for the ends of requests. Subclasses give `books`: the fake or those in Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from chassis.ids import new_id
from metering.domain.books import RequestNotFound
from metering.domain.budgets import Budget, BudgetSpent, CapBelowSpend
from metering.domain.money import NanoUsd
from metering.domain.prices import Price
from metering.domain.reservations import RequestIdReused, ReservationClosed, State
from metering.domain.usage import BEGINNING, END

from services.metering.tests.examples import UNKNOWN, a_hold, an_event, reported
from services.metering.tests.fakes import DEFAULT_CAP, Books


class BooksContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def price(self, books: Books) -> Price:
        return await books.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))

    async def test_a_hold_is_set_aside(self, books: Books, tenant: str, price: Price) -> None:
        hold = a_hold(tenant, price, 300)
        held = await books.reservations.hold(hold)

        assert (held.reservation.state, held.reservation.held, held.repeated) == (State.HELD, 300, False)
        assert held.reservation.bounds == hold.bounds
        assert held.reservation.expires_at - held.reservation.created_at == hold.lease
        assert held.budget == await books.budgets.read(tenant) == Budget(DEFAULT_CAP, held=NanoUsd(300))

    async def test_a_repeat_returns_the_same_hold_and_holds_nothing_more(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        hold = a_hold(tenant, price, 300)
        first = await books.reservations.hold(hold)
        second = await books.reservations.hold(hold)

        assert second.repeated
        assert second.reservation == first.reservation
        assert (await books.budgets.read(tenant)).held == 300

    async def test_a_repeat_with_other_bounds_is_refused(self, books: Books, tenant: str, price: Price) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)

        with pytest.raises(RequestIdReused):
            await books.reservations.hold(a_hold(tenant, price, 301, request_id=hold.request_id))
        assert (await books.budgets.read(tenant)).held == 300

    async def test_what_does_not_fit_is_refused_and_what_fits_still_fits(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        await books.reservations.hold(a_hold(tenant, price, DEFAULT_CAP - 10))

        with pytest.raises(BudgetSpent):
            await books.reservations.hold(a_hold(tenant, price, 11))
        await books.reservations.hold(a_hold(tenant, price, 10))
        assert (await books.budgets.read(tenant)).free == 0

    async def test_a_refused_request_may_ask_again_when_there_is_room(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        await books.budgets.set_cap(tenant, NanoUsd(5))
        hold = a_hold(tenant, price, 6)
        with pytest.raises(BudgetSpent):
            await books.reservations.hold(hold)
        await books.budgets.set_cap(tenant, NanoUsd(6))

        assert not (await books.reservations.hold(hold)).repeated

    async def test_a_settled_request_cannot_be_held_again(self, books: Books, tenant: str, price: Price) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        await books.ledger.settle([an_event(hold, reported(1))])

        with pytest.raises(ReservationClosed):
            await books.reservations.hold(hold)

    async def test_a_cap_is_not_lowered_below_what_is_spent_and_held(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        await books.budgets.set_cap(tenant, NanoUsd(400))
        await books.reservations.hold(a_hold(tenant, price, 300))

        with pytest.raises(CapBelowSpend):
            await books.budgets.set_cap(tenant, NanoUsd(299))
        assert await books.budgets.set_cap(tenant, NanoUsd(300)) == Budget(NanoUsd(300), held=NanoUsd(300))

    async def test_a_request_of_another_tenant_does_not_exist(self, books: Books, tenant: str, price: Price) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)

        for owner, request_id in ((new_id("ten_"), hold.request_id), (tenant, new_id("req_"))):
            with pytest.raises(RequestNotFound):
                await books.ledger.account(owner, request_id)

    async def test_usage_is_summed_by_model_and_day(self, books: Books, tenant: str, price: Price) -> None:
        other = await books.price_book.add(f"local/z{new_id('m')}", NanoUsd(3_000_000), NanoUsd(0))
        holds = [a_hold(tenant, price, 300), a_hold(tenant, price, 300), a_hold(tenant, other, 300)]
        for hold in holds:
            await books.reservations.hold(hold)
        await books.ledger.settle([an_event(hold, reported(100), UNKNOWN) for hold in holds])
        await books.ledger.settle([an_event(a_hold(tenant, price, 0))])

        day = (await books.ledger.account(tenant, holds[0].request_id)).settlements[0].settled_at.date()
        by_day = await books.reports.sums(tenant, BEGINNING, END, by_day=True)
        assert [(row.day, row.price_key, row.calls, row.input_tokens, row.cost) for row in by_day] == [
            (day, price.price_key, 4, 200, 200),
            (day, other.price_key, 2, 100, 300),
        ]
        whole = await books.reports.sums(tenant, BEGINNING, END, by_day=False)
        assert [(row.day, row.cost) for row in whole] == [(None, 200), (None, 300)]
        assert await books.reports.sums(new_id("ten_"), BEGINNING, END, by_day=True) == []

    async def test_usage_is_exact_to_the_instant_at_the_ends_of_a_span(
        self, books: Books, tenant: str, price: Price
    ) -> None:
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        await books.ledger.settle([an_event(hold, reported(100))])
        instant = (await books.ledger.account(tenant, hold.request_id)).settlements[0].settled_at
        after = instant + timedelta(microseconds=1)

        async def cost(start: datetime, end: datetime) -> int:
            return sum(row.cost for row in await books.reports.sums(tenant, start, end, by_day=False))

        midnight = datetime(instant.year, instant.month, instant.day, tzinfo=UTC)
        day = timedelta(days=1)
        assert await cost(instant, after) == await cost(midnight, after) == await cost(instant, midnight + day) == 100
        assert await cost(instant - 3 * day, instant + 3 * day) == await cost(midnight, midnight + day) == 100
        assert await cost(after, END) == await cost(BEGINNING, instant) == await cost(midnight - day, midnight) == 0

    async def test_a_new_price_holds_at_once_and_the_old_one_is_kept(self, books: Books, price: Price) -> None:
        newer = await books.price_book.add(price.price_key, NanoUsd(5), NanoUsd(0))

        in_force = {(row.tenant_id, row.price_key): row for row in await books.price_book.in_force()}
        assert in_force[newer.tenant_id, newer.price_key] == newer
        assert set(await books.price_book.recorded({price.version, newer.version, "prc_none"})) == {price, newer}

    async def test_the_audit_finds_balanced_books(self, books: Books, tenant: str, price: Price) -> None:
        before = await books.ledger.audit()
        hold = a_hold(tenant, price, 300)
        await books.reservations.hold(hold)
        held = await books.ledger.audit()
        await books.ledger.settle([an_event(hold, reported(100), UNKNOWN)])
        after = await books.ledger.audit()

        assert (after.imbalance, after.drift, held.drift) == (0, 0, 0)
        assert (held.held - before.held, after.held - held.held, after.spent - held.spent) == (300, -300, 100)
