"""Concurrent replicas keep the cap, and no two transactions deadlock."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.settings import PostgresSection
from metering.budgets.model import Budget, BudgetSpent
from metering.reservations.model import ReserveResult
from metering.settlement.model import SettlementCase
from metering.settlement.postgres import LOCK
from values.money import NanoUsd

from services.metering.tests.examples import EXPIRED_LEASE, a_price, a_reservation, an_event, expire_overdue, reported
from services.metering.tests.fakes import Stores

PRICE = a_price()
RESERVE_7 = """
SELECT metering.reserve(ARRAY[$1], ARRAY[$2], '{7}', '{PT1H}', ARRAY['[]'::jsonb], '{p}', '{k}', '{u}', 100)
"""
ANY_SESSION_WAITS = "SELECT count(*) > 0 FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"


async def test_of_200_concurrent_reservations_at_two_replicas_exactly_the_50_that_fit_are_held(
    stores: Stores, other_stores: Stores
) -> None:
    tenant = new_id("ten_")
    await stores.budgets.set_cap(tenant, NanoUsd(50 * 7))

    results = await asyncio.gather(
        *(
            replica.reservations.reserve(a_reservation(tenant, PRICE, 7))
            for _ in range(100)
            for replica in (stores, other_stores)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(result, ReserveResult) for result in results) == 50
    assert sum(isinstance(result, BudgetSpent) for result in results) == 150
    assert await stores.budgets.read(tenant) == Budget(NanoUsd(350), held=NanoUsd(350))


async def test_the_same_request_sent_to_two_replicas_at_once_is_held_once(stores: Stores, other_stores: Stores) -> None:
    tenant = new_id("ten_")
    priced = a_reservation(tenant, PRICE, 7)

    results = await asyncio.gather(
        *(replica.reservations.reserve(priced) for _ in range(10) for replica in (stores, other_stores))
    )

    assert sorted(result.repeated for result in results) == [False] + [True] * 19
    assert len({result.reservation.created_at for result in results}) == 1
    assert (await stores.budgets.read(tenant)).held == 7


async def test_the_first_reservations_of_a_tenant_at_two_replicas_make_one_budget(
    stores: Stores, other_stores: Stores
) -> None:
    for _ in range(10):
        tenant = new_id("ten_")
        await asyncio.gather(
            *(replica.reservations.reserve(a_reservation(tenant, PRICE, 7)) for replica in (stores, other_stores))
        )
        assert (await stores.budgets.read(tenant)).held == 14


async def test_first_reservations_of_many_tenants_beside_old_ones_at_two_replicas_never_deadlock(
    stores: Stores, other_stores: Stores
) -> None:
    for _ in range(15):
        tenants = [new_id("ten_") for _ in range(12)]
        for tenant in tenants[::3]:
            await stores.budgets.set_cap(tenant, NanoUsd(1000))
        await asyncio.gather(
            *(
                replica.reservations.reserve(a_reservation(tenant, PRICE, 7))
                for order in (tenants, tenants[::-1], tenants[::2], tenants[1::2])
                for tenant in order
                for replica in (stores, other_stores)
            )
        )
        assert (await stores.budgets.read(tenants[0])).held % 14 == 0


async def test_a_spent_budget_refuses_no_other_tenant_in_its_batch(stores: Stores) -> None:
    spent_tenant, other_tenant = new_id("ten_"), new_id("ten_")
    await stores.budgets.set_cap(spent_tenant, NanoUsd(0))

    results = await asyncio.gather(
        *(
            stores.reservations.reserve(a_reservation(tenant, PRICE, 7))
            for _ in range(20)
            for tenant in (spent_tenant, other_tenant)
        ),
        return_exceptions=True,
    )

    assert all(isinstance(result, BudgetSpent) for result in results[::2])
    assert all(isinstance(result, ReserveResult) for result in results[1::2])


async def test_the_same_event_at_two_consumers_at_once_is_settled_once(stores: Stores, other_stores: Stores) -> None:
    tenant = new_id("ten_")
    reservations = [a_reservation(tenant, PRICE, 7) for _ in range(20)]
    await asyncio.gather(*(stores.reservations.reserve(priced) for priced in reservations))
    events = [an_event(priced, reported(5)) for priced in reservations]

    first, second = await asyncio.gather(
        stores.settlements.settle(events), other_stores.settlements.settle(events[::-1])
    )

    cases = sorted(change.case for change in (*first, *second))
    assert cases == [SettlementCase.REPEATED] * 20 + [SettlementCase.SETTLED] * 20
    assert (await stores.budgets.read(tenant)).spent == 100


async def test_a_reservation_committed_while_its_event_is_being_settled_is_not_missed(
    stores: Stores, section: PostgresSection
) -> None:
    # Step by step, because the window is narrow: the settlement finds no reservation, and waits for the budget that the
    # transaction of the reservation has locked.
    priced = a_reservation(new_id("ten_"), PRICE, 7)
    event = an_event(priced, reported(5))
    assert section.owner_dsn is not None  # it leads to Postgres itself
    reserving = await asyncpg.connect(section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*"})
    async with reserving.transaction():
        await reserving.execute(RESERVE_7, priced.request.tenant_id, priced.request.request_id)
        settling = asyncio.create_task(stores.settlements.settle([event]))
        while not await reserving.fetchval(ANY_SESSION_WAITS):
            await asyncio.sleep(0.01)
    await reserving.close()

    with pytest.raises(Unavailable):
        await settling
    (change,) = await stores.settlements.settle([event])
    assert (change.case, change.held) == (SettlementCase.SETTLED, -7)


async def test_a_reservation_does_not_wait_for_the_settlement_of_held_requests(
    stores: Stores, database: Database
) -> None:
    priced = a_reservation(new_id("ten_"), PRICE, 7)
    await stores.reservations.reserve(priced)
    async with database.system() as settling:
        await settling.fetch(LOCK, [priced.request.tenant_id], [priced.request.request_id], 100)
        async with asyncio.timeout(30):
            await stores.reservations.reserve(a_reservation(priced.request.tenant_id, PRICE, 7))


async def test_a_reservation_waits_for_a_transaction_that_locks_requests_with_budgets(
    stores: Stores, database: Database
) -> None:
    # As the sweeper does.
    priced = a_reservation(new_id("ten_"), PRICE, 7)
    await stores.reservations.reserve(priced)
    async with database.system() as settling:
        await settling.fetch(
            "SELECT * FROM metering.lock_requests($1, $2, 100, true)",
            [priced.request.tenant_id],
            [priced.request.request_id],
        )
        reserving = asyncio.create_task(stores.reservations.reserve(a_reservation(priced.request.tenant_id, PRICE, 7)))
        async with asyncio.timeout(30):
            while not await settling.fetchval(ANY_SESSION_WAITS):
                await asyncio.sleep(0.01)
    await reserving


async def test_a_reservation_waits_for_a_settlement_that_needs_what_the_budget_has_left(
    stores: Stores, database: Database
) -> None:
    late = a_reservation(new_id("ten_"), PRICE, 7)
    await stores.reservations.reserve(late)
    await stores.settlements.settle([an_event(late, reported(5))])
    async with database.system() as settling:
        await settling.fetch(LOCK, [late.request.tenant_id], [late.request.request_id], 100)
        reserving = asyncio.create_task(stores.reservations.reserve(a_reservation(late.request.tenant_id, PRICE, 7)))
        while not await settling.fetchval(ANY_SESSION_WAITS):
            await asyncio.sleep(0)
        assert not reserving.done()
    await reserving


async def test_two_sweepers_at_once_expire_each_reservation_once(stores: Stores, other_stores: Stores) -> None:
    tenant = new_id("ten_")
    await asyncio.gather(
        *(stores.reservations.reserve(a_reservation(tenant, PRICE, 7, lease=EXPIRED_LEASE)) for _ in range(30))
    )

    overdue = await stores.leases.overdue(1000)
    swept = await asyncio.gather(*(replica.settlements.expire(overdue) for replica in (stores, other_stores)))
    swept += [await stores.settlements.expire(overdue)]

    ours = [row.reservation.request_id for part in swept for row in part if row.reservation.tenant_id == tenant]
    assert len(ours) == len(set(ours)) == 30
    assert await stores.budgets.read(tenant) == Budget((await stores.budgets.read(tenant)).cap)


async def test_reserving_settling_and_sweeping_many_tenants_at_once_never_deadlocks(
    stores: Stores, other_stores: Stores
) -> None:
    tenants = [new_id("ten_") for _ in range(8)]
    spent = dict.fromkeys(tenants, 0)

    async def work(replica: Stores, order: list[str]) -> None:
        for _ in range(5):
            reservations = [a_reservation(tenant, PRICE, 7, lease=EXPIRED_LEASE) for tenant in order]
            await asyncio.gather(*(replica.reservations.reserve(priced) for priced in reservations))
            await asyncio.gather(
                replica.settlements.settle([an_event(priced, reported(3)) for priced in reservations]),
                expire_overdue(replica, 50),
            )
            for tenant in order:
                spent[tenant] += 3

    await asyncio.gather(
        work(stores, tenants),
        work(other_stores, tenants[::-1]),
        work(stores, tenants[::-1]),
        work(other_stores, tenants),
    )

    for tenant in tenants:
        budget = await stores.budgets.read(tenant)
        assert (budget.spent, budget.held) == (spent[tenant], 0)
    assert (await stores.ledger.audit()).drift == 0
