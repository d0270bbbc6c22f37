"""Transactions that Postgres ends because of a deadlock, and that are repeated."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from chassis.errors import Unavailable
from chassis.postgres import Database, repeat_aborted
from chassis.postgres.retries import is_aborted
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database

ROWS = """
CREATE TABLE rows (tenant_id text NOT NULL, id text PRIMARY KEY, number integer NOT NULL DEFAULT 0);
ALTER TABLE rows ENABLE ROW LEVEL SECURITY;
ALTER TABLE rows FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON rows USING (true) WITH CHECK (true);
INSERT INTO rows (tenant_id, id) VALUES ('ten_a', 'one'), ('ten_a', 'two');
"""
ADD = "UPDATE rows SET number = number + 1 WHERE id = $1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def section(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresSection]:
    folder = tmp_path_factory.mktemp("migrations")
    (folder / "0001_rows.sql").write_text(ROWS)
    async with scratch_database(folder, "chassis_test", pool_size=4) as section:
        yield section


@pytest.fixture
async def db(section: PostgresSection) -> AsyncIterator[Database]:
    async with Database(section, "deadlocks") as db:
        await db.system().fetch("UPDATE rows SET number = 0")
        yield db


class Writer:
    """Adds one to both rows, in the order that it is told; at first when another writer has its first row, too."""

    def __init__(self, db: Database, both: asyncio.Barrier) -> None:
        self._db = db
        self._both = both
        self.calls = Counter[str]()

    async def add(self, first: str, second: str) -> str:
        self.calls[first] += 1
        async with self._db.tenant("ten_a") as connection:
            await connection.execute(ADD, first)
            if self.calls[first] == 1:
                await self._both.wait()
            await connection.execute(ADD, second)
        return first


async def numbers(db: Database) -> list[int]:
    return [row["number"] for row in await db.system().fetch("SELECT number FROM rows ORDER BY id")]


async def test_one_of_two_that_wait_for_each_other_is_aborted_and_has_written_nothing(db: Database) -> None:
    writer = Writer(db, asyncio.Barrier(2))

    ends = await asyncio.gather(writer.add("one", "two"), writer.add("two", "one"), return_exceptions=True)

    [failure] = [end for end in ends if isinstance(end, Unavailable)]
    assert is_aborted(failure)
    assert await numbers(db) == [1, 1]


async def test_the_aborted_one_is_repeated_and_both_have_written_once(db: Database) -> None:
    writer = Writer(db, asyncio.Barrier(2))
    add = repeat_aborted(writer.add)

    ends = await asyncio.gather(add("one", "two"), add("two", "one"))
    assert list(ends) == ["one", "two"]

    assert await numbers(db) == [2, 2]
    assert writer.calls.total() == 3


@pytest.mark.parametrize(
    ("cause", "calls"),
    [(asyncpg.DeadlockDetectedError(), 3), (asyncpg.SerializationError(), 3), (asyncpg.LockNotAvailableError(), 1)],
)
async def test_it_gives_up_after_three_calls_and_repeats_nothing_that_may_be_committed(
    cause: Exception, calls: int
) -> None:
    called = 0

    @repeat_aborted
    async def fail() -> None:
        nonlocal called
        called += 1
        raise Unavailable("the database does not answer") from cause

    with pytest.raises(Unavailable):
        await fail()
    assert called == calls
