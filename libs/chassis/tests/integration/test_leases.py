"""Leases on a real Postgres, with claimers on different connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from chassis.postgres import Database
from chassis.postgres.leases import Claimed, Lease, LeaseLost, LeaseTable
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database

TASKS_SQL = """
CREATE TABLE tasks (
    tenant_id text NOT NULL,
    id text NOT NULL,
    state text NOT NULL DEFAULT 'open',
    epoch bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    crashes integer NOT NULL DEFAULT 0,
    retries integer NOT NULL DEFAULT 0,
    result text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX tasks_due ON tasks (due_at) WHERE state = 'open';
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tasks
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
"""
TASKS = LeaseTable("tasks", key=("tenant_id", "id"), claimable="state = 'open'", crashes="crashes", retries="retries")
LONG = timedelta(minutes=5)
NOW = timedelta(0)
EXPIRED = timedelta(seconds=-1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def section(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresSection]:
    folder = tmp_path_factory.mktemp("migrations")
    (folder / "0001_tasks.sql").write_text(TASKS_SQL)
    async with scratch_database(folder, "chassis_test", pool_size=8) as section:
        yield section


@pytest.fixture
async def db(section: PostgresSection) -> AsyncIterator[Database]:
    async with Database(section, "leases") as db:
        yield db
        await db.system().fetch("DELETE FROM tasks")


async def add(db: Database, *ids: str, tenant_id: str = "ten_a") -> None:
    async with db.tenant(tenant_id) as connection:
        for number, task_id in enumerate(ids):
            await connection.execute(
                "INSERT INTO tasks (tenant_id, id, due_at) VALUES ($1, $2, now() - interval '1 hour' + $3)",
                tenant_id,
                task_id,
                timedelta(seconds=number),
            )


async def claim(db: Database, task_id: str, lease: timedelta = LONG, tenant_id: str = "ten_a") -> Claimed | None:
    async with db.tenant(tenant_id) as connection:
        return await TASKS.claim_one(connection, (tenant_id, task_id), lease)


async def claimed(db: Database, task_id: str, lease: timedelta = LONG) -> Claimed:
    found = await claim(db, task_id, lease)
    assert found is not None
    return found


async def read(db: Database, task_id: str) -> Any:
    async with db.tenant("ten_a") as connection:
        return await connection.fetchrow(
            "SELECT *, due_at > now() AS leased, due_at - now() AS remaining FROM tasks WHERE id = $1", task_id
        )


async def test_of_many_claimers_of_one_row_one_gets_it(db: Database) -> None:
    await add(db, "one")
    claims = await asyncio.gather(*(claim(db, "one") for _ in range(8)))
    assert [found.lease for found in claims if found] == [Lease(("ten_a", "one"), 1)]


async def test_many_claimers_never_own_the_same_row(db: Database) -> None:
    ids = [f"task-{number:03}" for number in range(200)]
    await add(db, *ids)

    async def claim_all() -> list[str]:
        mine: list[str] = []
        while found := await TASKS.claim_due(db.system(), 7, LONG):
            mine += [item.row["id"] for item in found]
        return mine

    owners = Counter(task_id for mine in await asyncio.gather(*(claim_all() for _ in range(6))) for task_id in mine)
    # A claimer may stop early because others have the last rows locked; the rows themselves are all claimed by one.
    assert set(owners.values()) == {1}
    assert set(owners) == set(ids)


async def test_claims_no_more_than_the_limit_and_the_longest_due_first(db: Database) -> None:
    await add(db, "first", "second", "third")
    found = await TASKS.claim_due(db.system(), 2, LONG)
    assert {item.row["id"] for item in found} == {"first", "second"}


async def test_a_claimed_row_is_not_claimed_again_before_its_lease_ends(db: Database) -> None:
    await add(db, "one")
    assert await claim(db, "one")
    assert await claim(db, "one") is None
    assert await TASKS.claim_due(db.system(), 10, LONG) == []


async def test_an_expired_lease_is_claimed_with_a_higher_epoch_and_counts_as_a_crash(db: Database) -> None:
    await add(db, "one")
    first = await claimed(db, "one", EXPIRED)
    [second] = await TASKS.claim_due(db.system(), 10, LONG)
    assert (first.lease.epoch, second.lease.epoch) == (1, 2)
    assert (first.row["crashes"], second.row["crashes"]) == (1, 2)


async def test_a_locked_row_stays_as_it_is_and_is_not_claimed_by_another(db: Database) -> None:
    await add(db, "one")
    old, new = await claimed(db, "one", EXPIRED), await claimed(db, "one", EXPIRED)

    async with db.tenant("ten_a") as connection:
        row = await TASKS.lock(connection, new.lease)
        assert (row["epoch"], row["crashes"]) == (2, 2)
        assert await claim(db, "one") is None
        with pytest.raises(LeaseLost):
            await TASKS.lock(connection, old.lease)
        version = await connection.fetchval("SELECT xmin FROM tasks WHERE id = 'one'")
        assert version != await connection.fetchval("SELECT pg_current_xact_id()::xid")
    third = await claimed(db, "one")
    assert third.lease.epoch == 3
    await TASKS.update(db.system(), third.lease, "state = 'done'")
    with pytest.raises(LeaseLost):
        await TASKS.lock(db.system(), third.lease)


async def test_a_write_with_a_stale_epoch_raises_lease_lost(db: Database) -> None:
    await add(db, "one")
    old = (await claimed(db, "one", EXPIRED)).lease
    new = (await claimed(db, "one")).lease
    with pytest.raises(LeaseLost):
        await TASKS.update(db.system(), old, "result = $1", "old")
    with pytest.raises(LeaseLost):
        await TASKS.extend(db.system(), old, LONG)
    with pytest.raises(LeaseLost):
        await TASKS.release(db.system(), old, NOW)
    with pytest.raises(LeaseLost):
        await TASKS.delete(db.system(), old)
    row = await TASKS.update(db.system(), new, "result = $1", "new")
    assert row["result"] == "new"


async def test_an_expired_lease_still_writes_while_the_row_was_not_claimed_again(db: Database) -> None:
    await add(db, "one")
    held = (await claimed(db, "one", EXPIRED)).lease
    await TASKS.update(db.system(), held, "result = $1, crashes = 0", "late")
    assert (await read(db, "one"))["result"] == "late"


async def test_a_finished_row_is_neither_claimed_nor_written(db: Database) -> None:
    await add(db, "one")
    held = (await claimed(db, "one", EXPIRED)).lease
    await TASKS.update(db.system(), held, "state = 'done'")
    assert await claim(db, "one") is None
    assert await TASKS.claim_due(db.system(), 10, LONG) == []
    with pytest.raises(LeaseLost):
        await TASKS.update(db.system(), held, "result = 'again'")


async def test_a_deleted_row_is_lost(db: Database) -> None:
    await add(db, "one")
    held = (await claimed(db, "one")).lease
    await TASKS.delete(db.system(), held)
    assert await read(db, "one") is None
    with pytest.raises(LeaseLost):
        await TASKS.extend(db.system(), held, LONG)


async def test_skips_rows_that_another_transaction_has_locked(db: Database) -> None:
    await add(db, "locked", "free")
    async with db.tenant("ten_a") as other:
        await other.execute("SELECT 1 FROM tasks WHERE id = 'locked' FOR UPDATE")
        async with asyncio.timeout(30):
            assert await claim(db, "locked") is None
            [found] = await TASKS.claim_due(db.system(), 10, LONG)
    assert found.row["id"] == "free"


async def test_a_fenced_update_keeps_the_row_until_the_transaction_ends(db: Database) -> None:
    await add(db, "one")
    held = (await claimed(db, "one", EXPIRED)).lease
    async with db.tenant("ten_a") as connection:
        await TASKS.update(connection, held, "result = 'in progress'")
        assert await claim(db, "one") is None
    assert await claim(db, "one")


async def test_a_heartbeat_extends_the_lease(db: Database) -> None:
    await add(db, "one")
    held = (await claimed(db, "one", timedelta(milliseconds=1))).lease
    await TASKS.extend(db.system(), held, LONG)
    assert (await read(db, "one"))["remaining"] > timedelta(minutes=4)
    assert await claim(db, "one") is None


async def test_a_released_row_can_be_claimed_at_once_and_consumed_no_attempt(db: Database) -> None:
    await add(db, "one")
    held = (await claimed(db, "one")).lease
    await TASKS.release(db.system(), held, NOW)
    row = await read(db, "one")
    assert (row["crashes"], row["retries"]) == (0, 0)
    again = await claimed(db, "one")
    assert (again.lease.epoch, again.row["crashes"]) == (2, 1)


async def test_a_failed_release_counts_a_retry_and_waits_for_the_delay(db: Database) -> None:
    await add(db, "one")
    held = (await claimed(db, "one")).lease
    await TASKS.release(db.system(), held, LONG, failed=True)
    row = await read(db, "one")
    assert (row["crashes"], row["retries"], row["leased"]) == (0, 1, True)
    assert await claim(db, "one") is None


async def test_overdue_rows_are_listed_with_tenants_in_turn_and_not_claimed(db: Database) -> None:
    await add(db, "a1", "a2", "a3")
    await add(db, "b1", tenant_id="ten_b")
    found = await TASKS.overdue(db.system(), 3, timedelta(minutes=1))
    assert found == [("ten_a", "a1"), ("ten_b", "b1"), ("ten_a", "a2")]
    assert (await read(db, "a1"))["epoch"] == 0


async def test_a_row_is_overdue_only_after_the_given_time(db: Database) -> None:
    await add(db, "one")
    assert await TASKS.overdue(db.system(), 10, timedelta(hours=2)) == []


async def test_a_tenants_transaction_claims_none_of_anothers_rows(db: Database) -> None:
    await add(db, "one")
    async with db.tenant("ten_b") as connection:
        assert await TASKS.claim_one(connection, ("ten_a", "one"), LONG) is None
        assert await TASKS.claim_due(connection, 10, LONG) == []


async def test_rows_are_looked_up_by_other_columns_than_the_key(db: Database) -> None:
    table = LeaseTable("tasks", key=("tenant_id", "id"), lookup=("tenant_id", "result"))
    await add(db, "one")
    found = await table.claim_one(db.system(), ("ten_a", ""), LONG)
    assert found is not None
    assert found.lease == Lease(("ten_a", "one"), 1)
    await table.release(db.system(), found.lease, NOW)
    assert await table.overdue(db.system(), 10, NOW) == [("ten_a", "")]
