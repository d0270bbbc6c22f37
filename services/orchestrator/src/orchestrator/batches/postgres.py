"""Batches in Postgres: tables `batches` (leased) and `batch_line_errors`."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
from chassis.errors import ArgosyError
from chassis.ids import new_id
from chassis.kafka import Outbox
from chassis.postgres import Database
from chassis.postgres.leases import Lease, LeaseLost, LeaseTable
from chassis.tenancy import Principal
from values.roles import SERVICE

from orchestrator.batches.model import (
    FINAL_STATES,
    Batch,
    BatchFinished,
    BatchIdReused,
    BatchLeaseLost,
    BatchLimitReached,
    BatchNotFound,
    BatchState,
    LineError,
    NewBatch,
)
from orchestrator.batches.ports import BatchClaim, BatchFiles
from orchestrator.batches.protos import batch_to_finished_event
from orchestrator.jobs.model import JobError, job_error

BATCH_FINISHED = "argosy.orchestration.batch-finished.v1"

BATCHES = LeaseTable("batches", key=("tenant_id", "batch_id"), claimable="finished_at IS NULL", crashes="crashes")

_COLUMNS = """
b.*, b.expires_at <= now() AS overdue,
coalesce(b.completed, (SELECT count(*) FROM finished_jobs AS f
    WHERE f.tenant_id = b.tenant_id AND f.batch_id = b.batch_id AND f.state = 'succeeded')) AS completed_now,
coalesce(b.failed, (SELECT count(*) FROM finished_jobs AS f
    WHERE f.tenant_id = b.tenant_id AND f.batch_id = b.batch_id AND f.state <> 'succeeded')
    + (SELECT count(*) FROM batch_line_errors AS e
    WHERE e.tenant_id = b.tenant_id AND e.batch_id = b.batch_id)) AS failed_now
"""
_GET = f"SELECT {_COLUMNS} FROM batches AS b WHERE b.tenant_id = $1 AND b.batch_id = $2"  # noqa: S608 - constants
_GET_CLAIMED = """
SELECT b.*, b.expires_at <= now() AS overdue, coalesce(b.completed, 0) AS completed_now,
    coalesce(b.failed, 0) AS failed_now
FROM batches AS b WHERE b.tenant_id = $1 AND b.batch_id = $2
"""
_LIST = f"""
SELECT {_COLUMNS} FROM batches AS b WHERE b.tenant_id = $1 AND ($2 = '' OR b.batch_id < $2)
ORDER BY b.batch_id DESC LIMIT $3
"""  # noqa: S608 - constants
_INSERT = """
INSERT INTO batches (tenant_id, batch_id, project_id, key_id, user_id, plan, endpoint, input_file_id,
    completion_window, metadata, expires_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, now() + $11
WHERE (SELECT count(*) FROM batches WHERE tenant_id = $1 AND finished_at IS NULL) < $12
"""
_REQUEST_CANCEL = """
UPDATE batches SET state = CASE WHEN state = 'finalizing' THEN state ELSE 'cancelling' END,
    cancelling_at = coalesce(cancelling_at, now()),
    -- Also while a lease runs: the next claim ends it, so that a long submission stops.
    due_at = CASE
        WHEN state IN ('cancelling', 'finalizing') THEN due_at ELSE least(due_at, now() + interval '1 second')
    END
WHERE tenant_id = $1 AND batch_id = $2 AND finished_at IS NULL
"""
_FINAL_FILES = "output_file_id = $1, error_file_id = $2, completed = $3, failed = $4"
_RECORD_ERRORS = """
INSERT INTO batch_line_errors (tenant_id, batch_id, line, custom_id, error)
SELECT $1, $2, line, custom_id, error::jsonb
FROM unnest($3::bigint[], $4::text[], $5::text[]) AS new (line, custom_id, error)
ON CONFLICT DO NOTHING
"""


class PostgresBatchStore:
    """Implements BatchStore."""

    def __init__(self, database: Database, on_written: Callable[[], None]) -> None:
        """`on_written` is called after an event was written to the outbox."""
        self._database = database
        self._on_written = on_written

    async def create(self, principal: Principal, new: NewBatch, window: timedelta, max_unfinished: int) -> Batch:
        tenant_id = principal.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            found = await connection.fetchrow(_GET, tenant_id, new.batch_id)
            if found is None:
                created = await _insert(connection, principal, new, window, max_unfinished)
                if not created:
                    message = f"the tenant has {max_unfinished} unfinished batches; wait until one is finished"
                    raise BatchLimitReached(message, retry_after=timedelta(minutes=1))
                found = await connection.fetchrow(_GET, tenant_id, new.batch_id)
        batch = row_to_batch(found)
        if (batch.endpoint, batch.input_file_id, batch.metadata) != (new.endpoint, new.input_file_id, new.metadata):
            raise BatchIdReused(f"{new.batch_id} is the id of another batch", param="batch_id")
        return batch

    async def get(self, tenant_id: str, batch_id: str) -> Batch:
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(_GET, tenant_id, batch_id)
        if row is None:
            raise BatchNotFound(f"there is no batch {batch_id!r}", param="batch_id")
        return row_to_batch(row)

    async def list_batches(self, tenant_id: str, *, limit: int, after: str) -> list[Batch]:
        async with self._database.tenant(tenant_id) as connection:
            return [row_to_batch(row) for row in await connection.fetch(_LIST, tenant_id, after, limit)]

    async def request_cancel(self, tenant_id: str, batch_id: str) -> Batch:
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(_REQUEST_CANCEL, tenant_id, batch_id)
        batch = await self.get(tenant_id, batch_id)
        if batch.state in FINAL_STATES:
            raise BatchFinished(f"the batch is {batch.state} already", param="batch_id")
        return batch

    async def claim_due(self, limit: int, lease: timedelta) -> list[BatchClaim]:
        claims = []
        for claimed in await BATCHES.claim_due(self._database.system(), limit, lease):
            # Without counts of a running batch, which nothing needs here: they would take long, each second.
            async with self._database.tenant(claimed.lease.key[0]) as connection:
                row = await connection.fetchrow(_GET_CLAIMED, *claimed.lease.key)
            claims.append(BatchClaim(row_to_batch(row), claimed.lease.epoch))
        return claims

    async def extend(self, claim: BatchClaim, lease: timedelta) -> None:
        await self._update(claim, "due_at = now() + $1::interval", lease)

    async def release(self, claim: BatchClaim, delay: timedelta) -> None:
        await self._update(claim, "due_at = now() + $1::interval, crashes = 0", delay)

    async def start(self, claim: BatchClaim, total: int) -> Batch:
        changes = (
            "total = $1, in_progress_at = now(), crashes = 0,"
            " state = CASE WHEN state = 'validating' THEN 'in_progress' ELSE state END"
        )
        await self._update(claim, changes, total)
        return await self.get(claim.batch.tenant_id, claim.batch.batch_id)

    async def record_lines(
        self, claim: BatchClaim, lines_read: int, errors: Sequence[LineError], lease: timedelta, *, last: bool
    ) -> None:
        changes = "lines_read = $1, submitted = $2, due_at = now() + $3::interval, crashes = 0"
        async with self._database.tenant(claim.batch.tenant_id) as connection:
            await _fenced(connection, claim, changes, lines_read, last, lease)
            if errors:
                await connection.execute(
                    _RECORD_ERRORS,
                    claim.batch.tenant_id,
                    claim.batch.batch_id,
                    [error.line for error in errors],
                    [_storable(error.custom_id) for error in errors],
                    [orjson.dumps(_error_to_json(error.error)).decode() for error in errors],
                )

    async def begin_finalizing(self, claim: BatchClaim) -> None:
        await self._update(claim, "state = 'finalizing', finalizing_at = coalesce(finalizing_at, now())")

    async def line_errors(self, tenant_id: str, batch_id: str, *, after: int, limit: int) -> list[LineError]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                "SELECT line, custom_id, error FROM batch_line_errors"
                " WHERE tenant_id = $1 AND batch_id = $2 AND line > $3 ORDER BY line LIMIT $4",
                tenant_id,
                batch_id,
                after,
                limit,
            )
        return [LineError(row["line"], _json_to_error(orjson.loads(row["error"])), row["custom_id"]) for row in rows]

    async def fail(self, claim: BatchClaim, errors: Sequence[LineError], files: BatchFiles | None = None) -> None:
        stored = [{"line": one.line, "error": _error_to_json(one.error)} for one in errors]
        changes = f"{_FINAL_FILES}, state = 'failed', errors = $5::jsonb"
        await self._finish(claim, changes, *(files or BatchFiles()), orjson.dumps(stored).decode())

    async def finish(self, claim: BatchClaim, state: BatchState, files: BatchFiles) -> None:
        await self._finish(claim, f"{_FINAL_FILES}, state = $5", *files, state.value)

    async def _finish(self, claim: BatchClaim, changes: str, *values: Any) -> None:
        tenant_id, batch_id = claim.batch.tenant_id, claim.batch.batch_id
        async with self._database.tenant(tenant_id) as connection:
            await _fenced(connection, claim, f"{changes}, finished_at = now()", *values)
            finished = row_to_batch(await connection.fetchrow(_GET, tenant_id, batch_id))
            event = batch_to_finished_event(finished, new_id("evt_"))
            await Outbox.enqueue(connection, BATCH_FINISHED, tenant_id, event.SerializeToString())
        self._on_written()

    async def _update(self, claim: BatchClaim, changes: str, *values: Any) -> None:
        async with self._database.tenant(claim.batch.tenant_id) as connection:
            await _fenced(connection, claim, changes, *values)


async def _insert(connection: Any, principal: Principal, new: NewBatch, window: timedelta, max_unfinished: int) -> bool:
    status = await connection.execute(
        _INSERT,
        principal.tenant_id,
        new.batch_id,
        principal.project_id,
        principal.key_id,
        principal.user_id,
        principal.plan,
        new.endpoint,
        new.input_file_id,
        new.completion_window,
        orjson.dumps(dict(new.metadata)).decode(),
        window,
        max_unfinished,
    )
    return bool(status == "INSERT 0 1")


async def _fenced(connection: Any, claim: BatchClaim, changes: str, *values: Any) -> None:
    try:
        lease = Lease((claim.batch.tenant_id, claim.batch.batch_id), claim.epoch)
        await BATCHES.update(connection, lease, changes, *values)
    except LeaseLost:
        raise BatchLeaseLost("another process has claimed the batch") from None


def row_to_batch(row: asyncpg.Record) -> Batch:
    # The service reads files and runs requests as itself, for the key that made the batch.
    principal = Principal(
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        key_id=row["key_id"],
        user_id=row["user_id"],
        roles=frozenset({SERVICE}),
        plan=row["plan"],
    )
    return Batch(
        principal=principal,
        batch_id=row["batch_id"],
        endpoint=row["endpoint"],
        input_file_id=row["input_file_id"],
        completion_window=row["completion_window"],
        metadata=orjson.loads(row["metadata"]),
        state=BatchState(row["state"]),
        total=row["total"],
        lines_read=row["lines_read"],
        submitted=row["submitted"],
        completed=row["completed_now"],
        failed=row["failed_now"],
        output_file_id=row["output_file_id"],
        error_file_id=row["error_file_id"],
        errors=tuple(LineError(one["line"], _json_to_error(one["error"])) for one in orjson.loads(row["errors"])),
        created_at=row["created_at"],
        in_progress_at=row["in_progress_at"],
        finalizing_at=row["finalizing_at"],
        finished_at=row["finished_at"],
        cancelling_at=row["cancelling_at"],
        expires_at=row["expires_at"],
        overdue=row["overdue"],
        crashes=row["crashes"],
    )


def _error_to_json(error: ArgosyError) -> dict[str, str]:
    return job_error(error)._asdict()


def _json_to_error(stored: dict[str, str]) -> ArgosyError:
    return JobError(**stored).to_error()


def _storable(text: str | None) -> str | None:
    """Replace zero characters, which Postgres cannot store."""
    return None if text is None else text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
