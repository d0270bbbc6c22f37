"""Contract of all stores but settlement. Subclasses give `stores`: those in memory or in Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from chassis.ids import new_id
from metering.budgets.model import Budget, BudgetSpent, CapBelowSpend
from metering.prices.model import PriceRow
from metering.reservations.model import RequestIdReused, RequestNotFound, ReservationClosed, ReservationState
from metering.usage.model import BEGINNING, END
from values.money import NanoUsd

from services.metering.tests.examples import UNKNOWN, a_reservation, an_event, reported
from services.metering.tests.fakes import DEFAULT_CAP, Stores


class StoresContract:
    @pytest.fixture
    def tenant(self) -> str:
        return new_id("ten_")

    @pytest.fixture
    async def price(self, stores: Stores) -> PriceRow:
        return await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))

    async def test_a_reservation_holds_its_amount(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        priced = a_reservation(tenant, price, 300)
        result = await stores.reservations.reserve(priced)

        assert (result.reservation.state, result.reservation.held, result.repeated) == (
            ReservationState.HELD,
            300,
            False,
        )
        assert result.reservation.bounds == priced.bounds
        assert result.reservation.expires_at - result.reservation.created_at == priced.request.lease
        assert result.budget == await stores.budgets.read(tenant) == Budget(DEFAULT_CAP, held=NanoUsd(300))

    async def test_a_repeat_returns_the_same_reservation_and_holds_nothing_more(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300)
        first = await stores.reservations.reserve(priced)
        second = await stores.reservations.reserve(priced)

        assert second.repeated
        assert second.reservation == first.reservation
        assert (await stores.budgets.read(tenant)).held == 300

    async def test_a_repeat_with_other_bounds_is_refused(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)

        with pytest.raises(RequestIdReused):
            await stores.reservations.reserve(a_reservation(tenant, price, 301, request_id=priced.request.request_id))
        assert (await stores.budgets.read(tenant)).held == 300

    async def test_what_does_not_fit_is_refused_and_what_fits_still_fits(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        await stores.reservations.reserve(a_reservation(tenant, price, DEFAULT_CAP - 10))

        with pytest.raises(BudgetSpent):
            await stores.reservations.reserve(a_reservation(tenant, price, 11))
        await stores.reservations.reserve(a_reservation(tenant, price, 10))
        assert (await stores.budgets.read(tenant)).available == 0

    async def test_a_refused_request_may_ask_again_when_there_is_room(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        await stores.budgets.set_cap(tenant, NanoUsd(5))
        priced = a_reservation(tenant, price, 6)
        with pytest.raises(BudgetSpent):
            await stores.reservations.reserve(priced)
        await stores.budgets.set_cap(tenant, NanoUsd(6))

        assert not (await stores.reservations.reserve(priced)).repeated

    async def test_a_settled_request_cannot_reserve_again(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, reported(1))])

        with pytest.raises(ReservationClosed):
            await stores.reservations.reserve(priced)

    async def test_a_cap_is_not_lowered_below_what_is_spent_and_held(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        await stores.budgets.set_cap(tenant, NanoUsd(400))
        await stores.reservations.reserve(a_reservation(tenant, price, 300))

        with pytest.raises(CapBelowSpend):
            await stores.budgets.set_cap(tenant, NanoUsd(299))
        assert await stores.budgets.set_cap(tenant, NanoUsd(300)) == Budget(NanoUsd(300), held=NanoUsd(300))

    async def test_a_request_of_another_tenant_does_not_exist(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)

        for owner, request_id in ((new_id("ten_"), priced.request.request_id), (tenant, new_id("req_"))):
            with pytest.raises(RequestNotFound):
                await stores.settlements.statement(owner, request_id)

    async def test_usage_is_summed_by_model_and_day(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        other = await stores.price_book.add(f"local/z{new_id('m')}", NanoUsd(3_000_000), NanoUsd(0))
        reservations = [
            a_reservation(tenant, price, 300),
            a_reservation(tenant, price, 300),
            a_reservation(tenant, other, 300),
        ]
        for priced in reservations:
            await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, reported(100), UNKNOWN) for priced in reservations])
        await stores.settlements.settle([an_event(a_reservation(tenant, price, 0))])

        day = (
            (await stores.settlements.statement(tenant, reservations[0].request.request_id))
            .settlements[0]
            .settled_at.date()
        )
        by_day = await stores.usage.sums(tenant, BEGINNING, END, by_day=True)
        assert [(row.day, row.price_key, row.calls, row.input_tokens, row.cost) for row in by_day] == [
            (day, price.price.key, 4, 200, 200),
            (day, other.price.key, 2, 100, 300),
        ]
        total = await stores.usage.sums(tenant, BEGINNING, END, by_day=False)
        assert [(row.day, row.cost) for row in total] == [(None, 200), (None, 300)]
        assert await stores.usage.sums(new_id("ten_"), BEGINNING, END, by_day=True) == []

    async def test_usage_is_exact_to_the_microsecond_at_the_ends_of_an_interval(
        self, stores: Stores, tenant: str, price: PriceRow
    ) -> None:
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        await stores.settlements.settle([an_event(priced, reported(100))])
        instant = (await stores.settlements.statement(tenant, priced.request.request_id)).settlements[0].settled_at
        after = instant + timedelta(microseconds=1)

        async def cost(start: datetime, end: datetime) -> int:
            return sum(row.cost for row in await stores.usage.sums(tenant, start, end, by_day=False))

        midnight = datetime(instant.year, instant.month, instant.day, tzinfo=UTC)
        day = timedelta(days=1)
        assert await cost(instant, after) == await cost(midnight, after) == await cost(instant, midnight + day) == 100
        assert await cost(instant - 3 * day, instant + 3 * day) == await cost(midnight, midnight + day) == 100
        assert await cost(after, END) == await cost(BEGINNING, instant) == await cost(midnight - day, midnight) == 0

    async def test_a_new_price_is_in_force_at_once_and_the_old_one_is_kept(
        self, stores: Stores, price: PriceRow
    ) -> None:
        newer = await stores.price_book.add(price.price.key, NanoUsd(5), NanoUsd(0))

        in_force = {(row.tenant_id, row.price.key): row for row in await stores.price_book.in_force()}
        assert in_force[newer.tenant_id, newer.price.key] == newer
        assert set(await stores.price_book.by_version({price.price.version, newer.price.version, "prc_none"})) == {
            price,
            newer,
        }

    async def test_the_audit_finds_a_balanced_ledger(self, stores: Stores, tenant: str, price: PriceRow) -> None:
        before = await stores.ledger.audit()
        priced = a_reservation(tenant, price, 300)
        await stores.reservations.reserve(priced)
        held = await stores.ledger.audit()
        await stores.settlements.settle([an_event(priced, reported(100), UNKNOWN)])
        after = await stores.ledger.audit()

        assert (after.imbalance, after.drift, held.drift) == (0, 0, 0)
        assert (held.held - before.held, after.held - held.held, after.spent - held.spent) == (300, -300, 100)
