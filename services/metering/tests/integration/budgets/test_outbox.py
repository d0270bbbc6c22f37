"""Events about budgets, from the reservation that reaches a limit to the outbox."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from argosy.metering.v1.events_pb2 import BUDGET_LIMIT_HARD, BUDGET_LIMIT_SOFT, BudgetLimitReached
from chassis.ids import new_id
from chassis.postgres import Database
from metering.budgets.model import BudgetSpent
from metering.budgets.outbox import BUDGET_LIMIT_REACHED, PostgresBudgetNotices
from metering.prices.model import PriceRow
from values.money import NanoUsd

from services.metering.tests.examples import a_reservation, an_event, reported
from services.metering.tests.fakes import Stores

CAP = NanoUsd(1_000)


@pytest.fixture
async def tenant(stores: Stores) -> str:
    tenant_id = new_id("ten_")
    await stores.budgets.set_cap(tenant_id, CAP)
    return tenant_id


@pytest.fixture
async def price(stores: Stores) -> PriceRow:
    return await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))


@pytest.fixture
def published(database: Database) -> Any:
    async def published(tenant: str) -> list[BudgetLimitReached]:
        notices = PostgresBudgetNotices(database, on_written=lambda: None)
        while await notices.publish():
            pass
        async with database.tenant(tenant) as connection:
            rows = await connection.fetch("SELECT * FROM outbox ORDER BY created_at, id")
        assert {row["topic"] for row in rows} <= {BUDGET_LIMIT_REACHED}
        events = [BudgetLimitReached.FromString(row["value"]) for row in rows]
        assert [event.meta.event_id for event in events] == [row["id"] for row in rows]
        return events

    return published


async def test_a_budget_tells_once_that_it_passed_its_soft_limit(
    stores: Stores, tenant: str, price: PriceRow, published: Any
) -> None:
    await stores.reservations.reserve(a_reservation(tenant, price, 799))
    assert await published(tenant) == []

    await stores.reservations.reserve(a_reservation(tenant, price, 1))
    await stores.reservations.reserve(a_reservation(tenant, price, 100))

    (event,) = await published(tenant)
    assert (event.limit, event.percent, event.meta.tenant_id) == (BUDGET_LIMIT_SOFT, 80, tenant)
    assert (event.cap.nano_usd, event.held.nano_usd, event.spent.nano_usd) == (1_000, 800, 0)


async def test_what_was_spent_counts_for_the_soft_limit(
    stores: Stores, tenant: str, price: PriceRow, published: Any
) -> None:
    priced = a_reservation(tenant, price, 700)
    await stores.reservations.reserve(priced)
    await stores.settlements.settle([an_event(priced, reported(700))])

    await stores.reservations.reserve(a_reservation(tenant, price, 100))

    (event,) = await published(tenant)
    assert (event.spent.nano_usd, event.held.nano_usd) == (700, 100)


async def test_a_budget_tells_once_that_it_refused(
    stores: Stores, tenant: str, price: PriceRow, published: Any
) -> None:
    for _ in range(3):
        with pytest.raises(BudgetSpent):
            await stores.reservations.reserve(a_reservation(tenant, price, 1_001))

    (event,) = await published(tenant)
    assert (event.limit, event.percent) == (BUDGET_LIMIT_HARD, 100)


async def test_a_new_cap_is_a_new_limit_and_the_same_cap_is_not(
    stores: Stores, tenant: str, price: PriceRow, published: Any
) -> None:
    await stores.reservations.reserve(a_reservation(tenant, price, 900))
    await stores.budgets.set_cap(tenant, CAP)
    await stores.reservations.reserve(a_reservation(tenant, price, 10))
    assert len(await published(tenant)) == 1

    await stores.budgets.set_cap(tenant, NanoUsd(1_100))
    await stores.reservations.reserve(a_reservation(tenant, price, 10))

    assert [event.cap.nano_usd for event in await published(tenant)] == [1_000, 1_100]


async def test_of_many_replicas_one_tells(
    stores: Stores, other_stores: Stores, tenant: str, price: PriceRow, published: Any
) -> None:
    results = await asyncio.gather(
        *(
            own.reservations.reserve(a_reservation(tenant, price, 90))
            for own in (stores, other_stores)
            for _ in "12345678"
        ),
        return_exceptions=True,
    )

    assert len([result for result in results if isinstance(result, BudgetSpent)]) == 5

    assert sorted(event.limit for event in await published(tenant)) == [BUDGET_LIMIT_SOFT, BUDGET_LIMIT_HARD]


async def test_a_repeated_request_that_finds_its_reservation_is_not_a_refusal(
    stores: Stores, tenant: str, price: PriceRow, published: Any
) -> None:
    priced = a_reservation(tenant, price, 700)
    await stores.reservations.reserve(priced)
    await stores.reservations.reserve(priced)

    assert await published(tenant) == []


async def test_a_cap_of_zero_has_no_soft_limit(stores: Stores, tenant: str, price: PriceRow, published: Any) -> None:
    await stores.budgets.set_cap(tenant, NanoUsd(0))
    with pytest.raises(BudgetSpent):
        await stores.reservations.reserve(a_reservation(tenant, price, 1))

    assert [event.limit for event in await published(tenant)] == [BUDGET_LIMIT_HARD]
