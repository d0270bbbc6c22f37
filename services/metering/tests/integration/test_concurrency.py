"""The cap holds for any number of replicas, and nobody waits for a lock for ever."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.settings import PostgresSection
from metering.adapters.ledger import OPEN
from metering.domain.budgets import Budget, BudgetSpent
from metering.domain.money import NanoUsd
from metering.domain.reservations import Held
from metering.domain.settlement import Story

from services.metering.tests.examples import OVER, a_hold, a_price, an_event, reported
from services.metering.tests.fakes import Books

PRICE = a_price()
RESERVE_7 = """
SELECT metering.reserve(ARRAY[$1], ARRAY[$2], '{7}', '{PT1H}', ARRAY['[]'::jsonb], '{p}', '{k}', '{u}', 100)
"""
SOMEBODY_WAITS = "SELECT count(*) > 0 FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"


async def test_of_200_concurrent_reservations_at_two_replicas_exactly_the_50_that_fit_are_held(
    books: Books, other_books: Books
) -> None:
    tenant = new_id("ten_")
    await books.budgets.set_cap(tenant, NanoUsd(50 * 7))

    answers = await asyncio.gather(
        *(replica.reservations.hold(a_hold(tenant, PRICE, 7)) for _ in range(100) for replica in (books, other_books)),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, Held) for answer in answers) == 50
    assert sum(isinstance(answer, BudgetSpent) for answer in answers) == 150
    assert await books.budgets.read(tenant) == Budget(NanoUsd(350), held=NanoUsd(350))


async def test_the_same_request_sent_to_two_replicas_at_once_is_held_once(books: Books, other_books: Books) -> None:
    tenant = new_id("ten_")
    hold = a_hold(tenant, PRICE, 7)

    answers = await asyncio.gather(
        *(replica.reservations.hold(hold) for _ in range(10) for replica in (books, other_books))
    )

    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 19
    assert len({answer.reservation.created_at for answer in answers}) == 1
    assert (await books.budgets.read(tenant)).held == 7


async def test_a_tenant_s_first_reservations_at_two_replicas_make_one_budget(books: Books, other_books: Books) -> None:
    for _ in range(10):
        tenant = new_id("ten_")
        await asyncio.gather(*(replica.reservations.hold(a_hold(tenant, PRICE, 7)) for replica in (books, other_books)))
        assert (await books.budgets.read(tenant)).held == 14


async def test_first_reservations_of_many_tenants_beside_old_ones_at_two_replicas_never_deadlock(
    books: Books, other_books: Books
) -> None:
    for _ in range(15):
        tenants = [new_id("ten_") for _ in range(12)]
        for tenant in tenants[::3]:
            await books.budgets.set_cap(tenant, NanoUsd(1000))
        await asyncio.gather(
            *(
                replica.reservations.hold(a_hold(tenant, PRICE, 7))
                for order in (tenants, tenants[::-1], tenants[::2], tenants[1::2])
                for tenant in order
                for replica in (books, other_books)
            )
        )
        assert (await books.budgets.read(tenants[0])).held % 14 == 0


async def test_one_tenant_s_spent_budget_refuses_nobody_else_in_its_batch(books: Books) -> None:
    poor, rich = new_id("ten_"), new_id("ten_")
    await books.budgets.set_cap(poor, NanoUsd(0))

    answers = await asyncio.gather(
        *(books.reservations.hold(a_hold(tenant, PRICE, 7)) for _ in range(20) for tenant in (poor, rich)),
        return_exceptions=True,
    )

    assert all(isinstance(answer, BudgetSpent) for answer in answers[::2])
    assert all(isinstance(answer, Held) for answer in answers[1::2])


async def test_the_same_event_at_two_consumers_at_once_is_settled_once(books: Books, other_books: Books) -> None:
    tenant = new_id("ten_")
    holds = [a_hold(tenant, PRICE, 7) for _ in range(20)]
    await asyncio.gather(*(books.reservations.hold(hold) for hold in holds))
    events = [an_event(hold, reported(5)) for hold in holds]

    first, second = await asyncio.gather(books.ledger.settle(events), other_books.ledger.settle(events[::-1]))

    stories = sorted(posting.story for posting in (*first, *second))
    assert stories == [Story.REPEATED] * 20 + [Story.SETTLED] * 20
    assert (await books.budgets.read(tenant)).spent == 100


async def test_a_reservation_made_while_its_event_is_being_settled_is_not_overlooked(
    books: Books, section: PostgresSection
) -> None:
    # By hand, because the window is narrow: the event looks for a reservation, finds none, and waits for the budget
    # that the reservation's transaction holds.
    hold = a_hold(new_id("ten_"), PRICE, 7)
    event = an_event(hold, reported(5))
    reserving = await asyncpg.connect(section.dsn.get_secret_value(), server_settings={"argosy.tenant": "*"})
    async with reserving.transaction():
        await reserving.execute(RESERVE_7, hold.tenant_id, hold.request_id)
        settling = asyncio.create_task(books.ledger.settle([event]))
        while not await reserving.fetchval(SOMEBODY_WAITS):
            await asyncio.sleep(0.01)
    await reserving.close()

    with pytest.raises(Unavailable):
        await settling
    (posting,) = await books.ledger.settle([event])
    assert (posting.story, posting.held) == (Story.SETTLED, -7)


async def test_who_reserves_does_not_wait_for_a_settlement_of_what_is_held(books: Books, database: Database) -> None:
    hold = a_hold(new_id("ten_"), PRICE, 7)
    await books.reservations.hold(hold)
    async with database.system() as settling:
        await settling.fetch(OPEN, [hold.tenant_id], [hold.request_id], 100)
        async with asyncio.timeout(3):
            await books.reservations.hold(a_hold(hold.tenant_id, PRICE, 7))


async def test_who_reserves_waits_for_a_settlement_that_opens_accounts_with_their_budgets(
    books: Books, database: Database
) -> None:
    # As a sweep does.
    hold = a_hold(new_id("ten_"), PRICE, 7)
    await books.reservations.hold(hold)
    async with database.system() as settling:
        await settling.fetch("SELECT * FROM metering.open_accounts($1, $2, 100)", [hold.tenant_id], [hold.request_id])
        reserving = asyncio.create_task(books.reservations.hold(a_hold(hold.tenant_id, PRICE, 7)))
        async with asyncio.timeout(3):
            while not await settling.fetchval(SOMEBODY_WAITS):
                await asyncio.sleep(0.01)
    await reserving


async def test_who_reserves_waits_for_a_settlement_that_takes_what_the_budget_has_left(
    books: Books, database: Database
) -> None:
    late = a_hold(new_id("ten_"), PRICE, 7)
    await books.reservations.hold(late)
    await books.ledger.settle([an_event(late, reported(5))])
    async with database.system() as settling:
        await settling.fetch(OPEN, [late.tenant_id], [late.request_id], 100)
        reserving = asyncio.create_task(books.reservations.hold(a_hold(late.tenant_id, PRICE, 7)))
        while not await settling.fetchval(SOMEBODY_WAITS):
            await asyncio.sleep(0)
        assert not reserving.done()
    await reserving


async def test_two_sweepers_at_once_give_each_hold_back_once(books: Books, other_books: Books) -> None:
    tenant = new_id("ten_")
    await asyncio.gather(*(books.reservations.hold(a_hold(tenant, PRICE, 7, lease=OVER)) for _ in range(30)))

    swept = await asyncio.gather(*(replica.ledger.expire(15) for replica in (books, other_books)))
    swept += [await books.ledger.expire(100)]

    ours = [row.reservation.request_id for part in swept for row in part if row.reservation.tenant_id == tenant]
    assert len(ours) == len(set(ours)) == 30
    assert await books.budgets.read(tenant) == Budget((await books.budgets.read(tenant)).cap)


async def test_reserving_settling_and_sweeping_many_tenants_at_once_never_deadlocks(
    books: Books, other_books: Books
) -> None:
    tenants = [new_id("ten_") for _ in range(8)]
    spent = dict.fromkeys(tenants, 0)

    async def work(replica: Books, order: list[str]) -> None:
        for _ in range(5):
            holds = [a_hold(tenant, PRICE, 7, lease=OVER) for tenant in order]
            await asyncio.gather(*(replica.reservations.hold(hold) for hold in holds))
            await asyncio.gather(
                replica.ledger.settle([an_event(hold, reported(3)) for hold in holds]), replica.ledger.expire(50)
            )
            for tenant in order:
                spent[tenant] += 3

    await asyncio.gather(
        work(books, tenants), work(other_books, tenants[::-1]), work(books, tenants[::-1]), work(other_books, tenants)
    )

    for tenant in tenants:
        budget = await books.budgets.read(tenant)
        assert (budget.spent, budget.held) == (spent[tenant], 0)
    assert (await books.ledger.audit()).drift == 0
