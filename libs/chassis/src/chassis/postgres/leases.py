"""Leases on rows that one of several processes works on at a time.

The table has a due column (timestamptz) and an epoch column (bigint, from 0). The protocol:

1. A row whose due time has passed can be claimed. A claim raises its epoch by one and moves its due time to the end of
   the lease, in one statement. Of two claimers one gets the row; rows locked by another transaction are skipped.
2. The owner does its work. It moves the end of the lease with `extend` (the heartbeat) and writes with `update` and
   `delete`. All three compare the epoch and raise `LeaseLost` when the row was claimed again or is not claimable now.
3. The owner ends the lease: it makes the row unclaimable (by the table's `claimable` condition), deletes it, or returns
   it with `release`.
4. When the owner dies, the due time passes and the row can be claimed again. There is no other reaper.

The clock is the database's: `now()`, the start of the transaction. The due time decides who may claim and the epoch who
may write: an owner whose lease has expired can still write as long as the row was not claimed by another.

A claim counts as a crash until the owner says otherwise: with a crash column it adds 1, `release` takes 1 off, and the
owner sets it to 0 in the `update` that records progress. So a row that kills its worker is told apart from a row whose
work fails: `release(..., failed=True)` adds 1 to the retry column. Limits for both are the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol


class LeaseLost(Exception):
    """Another process has claimed the row since, or it is finished or deleted: stop, and write nothing."""


class Executor(Protocol):
    """A connection in a transaction, or `Database.system()`, where each statement is a transaction of its own."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run one statement and return its rows."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one row: the values of its key columns, and the epoch of the claim."""

    key: tuple[Any, ...]
    epoch: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lease and the claimed row, all columns, as it is after the claim."""

    lease: Lease
    row: Any


class LeaseTable:
    """A table of rows to lease, and the statements for it. Make one per table, as a constant.

    Arguments are SQL and are not quoted: take them from code only.

    table: the table's name.
    key: columns that identify a row for good. A row that is deleted and inserted again must have another key, because
        its epoch starts from 0 again.
    lookup: columns by which `claim_one` and `overdue` name a row; the key unless given.
    claimable: condition on rows with work left. It needs a partial index on the due column with the same condition.
    crashes, retries: counter columns, if the table has them.
    known: column that each claim sets to its epoch, if the table has it: it tells the claims of this version from those
        of a version before that does not know what the rows need.
    tenant: column by which `overdue` takes turns.
    """

    def __init__(
        self,
        table: str,
        *,
        key: Sequence[str],
        lookup: Sequence[str] = (),
        claimable: str = "true",
        due: str = "due_at",
        epoch: str = "epoch",
        crashes: str = "",
        retries: str = "",
        known: str = "",
        tenant: str = "tenant_id",
    ) -> None:
        self._key = tuple(key)
        self._due = due
        self._epoch = epoch
        self._retries = retries
        self._table = table
        self._claimable = claimable
        lookup = tuple(lookup) or self._key
        key_columns = ", ".join(self._key)
        claim = (
            f"UPDATE {table} AS claimed SET {epoch} = claimed.{epoch} + 1, {due} = now() + $1::interval"  # noqa: S608
            + (f", {crashes} = claimed.{crashes} + 1" if crashes else "")
            + (f", {known} = claimed.{epoch} + 1" if known else "")
            + " FROM free WHERE "
            + " AND ".join(f"claimed.{column} = free.{column}" for column in self._key)
            + " RETURNING claimed.*"
        )
        # MATERIALIZED: inside a join the planner could run the LIMIT more than once and claim too many rows.
        # NO KEY UPDATE: two claimers exclude each other, inserts of rows that refer to this one are not blocked.
        self._claim_one = (
            f"WITH free AS MATERIALIZED (SELECT {key_columns} FROM {table} WHERE {_equal(lookup, start=2)}"  # noqa: S608
            f" AND {due} <= now() AND ({claimable}) FOR NO KEY UPDATE SKIP LOCKED) {claim}"
        )
        wanted = ", ".join(f"wanted.{column}" for column in lookup)
        arrays = ", ".join(f"${number}::text[]" for number, _ in enumerate(lookup, start=2))
        # A subquery that locks is not merged into the join: each row is read by its lookup columns.
        self._claim_some = (
            f"WITH free AS MATERIALIZED (SELECT one.* FROM unnest({arrays}) AS wanted ({', '.join(lookup)})"  # noqa: S608
            f" CROSS JOIN LATERAL (SELECT {key_columns} FROM {table} AS t WHERE"
            f" ({', '.join(f't.{column}' for column in lookup)}) = ({wanted})"
            f" AND {due} <= now() AND ({claimable}) FOR NO KEY UPDATE SKIP LOCKED) AS one) {claim}"
        )
        self._claim_due = (
            f"WITH free AS MATERIALIZED (SELECT {key_columns} FROM {table} WHERE {due} <= now() AND ({claimable})"  # noqa: S608
            f" ORDER BY {due} LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED) {claim}"
        )
        self._overdue = (
            f"SELECT {', '.join(lookup)} FROM (SELECT *, row_number() OVER (PARTITION BY {tenant} ORDER BY {due})"  # noqa: S608
            f" AS turn FROM {table} WHERE {due} <= now() - $1::interval AND ({claimable})) AS waiting"
            f" ORDER BY turn, {due} LIMIT $2"
        )
        self._lock = f"SELECT * FROM {table} WHERE {_equal((*self._key, epoch), start=1)} AND ({claimable})"  # noqa: S608
        self._release = f"{due} = now() + $1::interval" + (
            f", {crashes} = greatest({crashes} - 1, 0)" if crashes else ""
        )

    async def claim_one(self, executor: Executor, lookup: Sequence[Any], lease: timedelta) -> Claimed | None:
        """Claim the row with these lookup values; None when it is not due, not claimable, locked or deleted."""
        rows = await executor.fetch(self._claim_one, lease, *lookup)
        return self._claimed(rows[0]) if rows else None

    async def claim_some(self, executor: Executor, lookups: Sequence[Sequence[str]], lease: timedelta) -> list[Claimed]:
        """Claim those of several rows that `claim_one` would claim, in any order; lookup columns have to be text."""
        columns = map(list, zip(*lookups, strict=True))
        return [self._claimed(row) for row in await executor.fetch(self._claim_some, lease, *columns)]

    async def claim_due(self, executor: Executor, limit: int, lease: timedelta) -> list[Claimed]:
        """Claim at most `limit` rows, those due for longest; their order is not kept."""
        return [self._claimed(row) for row in await executor.fetch(self._claim_due, lease, limit)]

    async def overdue(self, executor: Executor, limit: int, due_for: timedelta) -> list[tuple[Any, ...]]:
        """Lookup values of rows that have been due for at least `due_for`, without claiming them.

        Tenants take turns, so that many rows of one do not hide another's. That sorts all overdue rows: call it every
        few seconds, not for every claim.
        """
        return [tuple(row) for row in await executor.fetch(self._overdue, due_for, limit)]

    async def extend(self, executor: Executor, held: Lease, lease: timedelta) -> None:
        """Make the lease end after `lease` from now. Raises LeaseLost."""
        await self.update(executor, held, f"{self._due} = now() + $1::interval", lease)

    async def update(self, executor: Executor, held: Lease, changes: str, *values: Any) -> Any:
        """Change the leased row: `UPDATE … SET changes`, with `values` for `$1`, `$2`…. Returns the changed row.

        In a transaction it also locks the row, so later statements of the transaction are fenced as well.
        Raises LeaseLost.
        """
        return await self._fenced(executor, held, f"UPDATE {self._table} SET {changes}", *values)  # noqa: S608

    async def lock(self, executor: Executor, held: Lease) -> Any:
        """Lock the leased row until the end of the transaction, unchanged, and return it. Raises LeaseLost.

        For a transaction that changes the row later. Two changes of a row in one transaction would lock the rows to
        which its foreign keys refer: Postgres skips that check only for a version that an earlier transaction wrote.
        """
        return self._one(await executor.fetch(f"{self._lock} FOR NO KEY UPDATE", *held.key, held.epoch))

    async def delete(self, executor: Executor, held: Lease) -> None:
        """Delete the leased row. Raises LeaseLost."""
        await self._fenced(executor, held, f"DELETE FROM {self._table}")  # noqa: S608 - constants

    async def release(self, executor: Executor, held: Lease, delay: timedelta, *, failed: bool = False) -> None:
        """End the lease; the row is due again after `delay`. Raises LeaseLost.

        The claim no longer counts as a crash. `failed` counts it as a retry, so a plain release consumes no attempt.
        """
        retry = f", {self._retries} = {self._retries} + 1" if failed and self._retries else ""
        await self.update(executor, held, self._release + retry, delay)

    async def _fenced(self, executor: Executor, held: Lease, statement: str, *values: Any) -> Any:
        condition = _equal((*self._key, self._epoch), start=len(values) + 1)
        return self._one(
            await executor.fetch(
                f"{statement} WHERE {condition} AND ({self._claimable}) RETURNING *", *values, *held.key, held.epoch
            )
        )

    def _one(self, rows: list[Any]) -> Any:
        if not rows:
            raise LeaseLost
        return rows[0]

    def _claimed(self, row: Any) -> Claimed:
        return Claimed(Lease(tuple(row[column] for column in self._key), row[self._epoch]), row)


def _equal(columns: Sequence[str], start: int) -> str:
    return " AND ".join(f"{column} = ${number}" for number, column in enumerate(columns, start=start))
