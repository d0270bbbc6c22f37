"""The work of migrations in Postgres: leases on `store_migrations`, and vectors in `chunk_vectors`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from chassis.postgres import Database, repeat_aborted
from chassis.postgres.leases import Claimed, Lease, LeaseLost, LeaseTable
from chassis.tenancy import Principal

from retrieval.embeddings.model import EmbeddingSpace, to_floats
from retrieval.ingestion.chunk_rows import BYTES_PER_DIMENSION
from retrieval.ingestion.finished_files_postgres import ADD_VECTORS
from retrieval.ingestion.model import ClaimLost
from retrieval.ingestion.postgres import OVERDUE_AFTER, ROLES
from retrieval.locks.postgres import lock_to_change, lock_to_write
from retrieval.store_migrations.model import (
    ALL_FILES,
    ChunkPlace,
    MigrationClaim,
    MigrationKey,
    PlacedVector,
    StoredChunk,
    Unsettled,
)
from retrieval.store_migrations.postgres import SET_NEXT

MIGRATIONS = LeaseTable(
    "store_migrations",
    key=("tenant_id", "vector_store_id", "migration_id"),
    claimable="state = 'in_progress' OR retired_space IS NOT NULL",
    crashes="crashes",
    retries="retries",
)

# The page is read first and then looked up, row by row: LIMIT keeps the planner from reading the whole store for each
# page. The tenant comes from a subquery, whose value is not looked up in the statistics; see retrieval.search.postgres.
CHUNKS = """
SELECT page.attachment, page.ordinal, page.text, file.found AND vector.found IS NULL AS missing
FROM (
    SELECT attachment, ordinal, text FROM chunks WHERE tenant_id = (SELECT $1::text) AND vector_store_id = $2
    AND (attachment, ordinal) > ($4, $5) ORDER BY attachment, ordinal LIMIT $6
) AS page
LEFT JOIN LATERAL (
    SELECT state <> 'failed' AS found FROM attachments
    WHERE tenant_id = (SELECT $1::text) AND attachment = page.attachment LIMIT 1
) AS file ON true
LEFT JOIN LATERAL (
    SELECT true AS found FROM chunk_vectors
    WHERE tenant_id = (SELECT $1::text) AND vector_store_id = $2 AND space = $3
      AND attachment = page.attachment AND ordinal = page.ordinal LIMIT 1
) AS vector ON true
ORDER BY page.attachment, page.ordinal
"""
# FOR SHARE, so that no file is taken out, or fails, before the commit: its vectors would stay for ever.
_LOCK_FILES = """
SELECT attachment FROM attachments WHERE tenant_id = $1 AND attachment = ANY($2::bigint[]) AND state <> 'failed'
ORDER BY attachment FOR SHARE
"""
_CUT_OVER = """
UPDATE vector_stores SET embedding_model = next_embedding_model, space = next_space,
    next_embedding_model = NULL, next_space = NULL
WHERE tenant_id = $1 AND vector_store_id = $2 AND next_space = $3 RETURNING space
"""
# A file has its number before it is visible, by at most the longest transaction.
_UNSETTLED = """
SELECT ARRAY(SELECT attachment FROM attachments
             WHERE tenant_id = $1 AND vector_store_id = $2 AND state = 'in_progress') AS in_progress,
       (SELECT coalesce(max(attachment), 0) FROM attachments
        WHERE tenant_id = $1 AND vector_store_id = $2 AND created_at < now() - interval '10 minutes') AS settled
"""
COUNTS_OF_FILES = """
WITH files AS MATERIALIZED (
    SELECT attachment, chunks FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND state <> 'failed'
    AND (attachment > $4 OR attachment = ANY($5::bigint[]))
)
SELECT (SELECT coalesce(sum(chunks), 0) FROM files)::bigint AS chunks,
       (SELECT count(*) FROM chunk_vectors WHERE tenant_id = $1 AND vector_store_id = $2 AND space = $3
        AND attachment = ANY(ARRAY(SELECT attachment FROM files))) AS migrated_chunks
"""
# The dimensions of a space are those of any of its vectors.
_USAGE = f"""
UPDATE attachments SET usage_bytes = usage_bytes + chunks * {BYTES_PER_DIMENSION} * coalesce(
    (SELECT vector_dims(embedding) FROM chunk_vectors
     WHERE tenant_id = $1 AND vector_store_id = $2 AND space = $4 LIMIT 1)
    - coalesce(
        (SELECT vector_dims(embedding) FROM chunk_vectors
         WHERE tenant_id = $1 AND vector_store_id = $2 AND space = $3 LIMIT 1),
        (SELECT vector_dims(embedding) FROM chunks
         WHERE tenant_id = $1 AND vector_store_id = $2 AND embedding IS NOT NULL LIMIT 1)), 0)
WHERE tenant_id = $1 AND vector_store_id = $2 AND chunks > 0
"""  # noqa: S608 - a constant
# A page by its bounds, so that it is a range of the primary key.
_LAST_OF_PAGE = """
WITH last AS MATERIALIZED (
    SELECT attachment, ordinal FROM (
        SELECT attachment, ordinal FROM {table} WHERE tenant_id = (SELECT $1::text) AND vector_store_id = $2 {space}
        AND (attachment, ordinal) > ($3, $4) ORDER BY attachment, ordinal LIMIT $5
    ) AS page ORDER BY attachment DESC, ordinal DESC LIMIT 1
)
"""
_IN_PAGE = """
tenant_id = (SELECT $1::text) AND vector_store_id = $2 AND (attachment, ordinal) > ($3, $4)
AND (attachment, ordinal) <= ((SELECT attachment FROM last), (SELECT ordinal FROM last))
"""
_CLEAR_FIRST_SPACE = f"""
{_LAST_OF_PAGE.format(table="chunks", space="")}, cleared AS (
    UPDATE chunks SET embedding = NULL WHERE {_IN_PAGE} AND embedding IS NOT NULL
) SELECT attachment, ordinal FROM last
"""  # noqa: S608 - constants
_DELETE_SPACE = f"""
{_LAST_OF_PAGE.format(table="chunk_vectors", space="AND space = $6")}, deleted AS (
    DELETE FROM chunk_vectors WHERE {_IN_PAGE} AND space = $6
) SELECT attachment, ordinal FROM last
"""  # noqa: S608 - constants


class PostgresMigrationRuns:
    """Implements MigrationRuns."""

    def __init__(self, database: Database, overdue_after: timedelta = OVERDUE_AFTER) -> None:
        self._database = database
        self._overdue_after = overdue_after

    async def claim(self, key: MigrationKey, lease: timedelta) -> MigrationClaim | None:
        lookup = (key.tenant_id, key.vector_store_id, key.migration_id)
        async with self._database.tenant(key.tenant_id) as connection:
            claimed = await MIGRATIONS.claim_one(connection, lookup, lease)
        return None if claimed is None else claimed_to_claim(key, claimed)

    async def overdue(self, limit: int) -> Sequence[MigrationKey]:
        found = await MIGRATIONS.overdue(self._database.system(), limit, self._overdue_after)
        return [MigrationKey(*lookup) for lookup in found]

    async def extend(self, claim: MigrationClaim, lease: timedelta) -> None:
        async with self._fenced(claim) as connection:
            await MIGRATIONS.extend(connection, _lease(claim), lease)

    async def chunks(self, claim: MigrationClaim, after: ChunkPlace, limit: int) -> Sequence[StoredChunk]:
        async with self._database.tenant(claim.key.tenant_id) as connection:
            rows = await connection.fetch(CHUNKS, *_store(claim), claim.space.number, *after, limit)
        return [StoredChunk(row_to_place(row), row["text"], bool(row["missing"])) for row in rows]

    @repeat_aborted
    async def add_vectors(
        self, claim: MigrationClaim, vectors: Sequence[PlacedVector], reused: int, lease: timedelta
    ) -> None:
        async with self._fenced(claim) as connection:
            await lock_to_write(connection, *_store(claim))
            await MIGRATIONS.update(
                connection,
                _lease(claim),
                "embedded_chunks = embedded_chunks + $1, reused_chunks = reused_chunks + $2, due_at = now() + $3,"
                " crashes = 0, retries = 0",
                len(vectors) - reused,
                reused,
                lease,
            )
            attachments = {item.place.attachment for item in vectors}
            locked = await connection.fetch(_LOCK_FILES, claim.key.tenant_id, list(attachments))
            there = {row["attachment"] for row in locked}
            rows = [placed_vector_to_row(claim, item) for item in vectors if item.place.attachment in there]
            await connection.executemany(ADD_VECTORS, rows)

    async def unsettled(self, claim: MigrationClaim) -> Unsettled:
        async with self._database.tenant(claim.key.tenant_id) as connection:
            row = await connection.fetchrow(_UNSETTLED, *_store(claim))
        return Unsettled(tuple(row["in_progress"]), row["settled"])

    @repeat_aborted
    async def cut_over(self, claim: MigrationClaim, grace: timedelta, files: Unsettled = ALL_FILES) -> bool:
        space = claim.space.number
        async with self._fenced(claim) as connection:
            old_space = (await _locked_store(connection, claim))["space"]
            counts = await connection.fetchrow(
                COUNTS_OF_FILES, *_store(claim), space, files.after, list(files.in_progress)
            )
            if counts["migrated_chunks"] < counts["chunks"]:
                return False
            await MIGRATIONS.update(
                connection,
                _lease(claim),
                "state = 'completed', retired_space = $1, finished_at = now(), due_at = now() + $2, crashes = 0,"
                " retries = 0",
                old_space,
                grace,
            )
            if await connection.fetchval(_CUT_OVER, *_store(claim), space) is None:
                raise ClaimLost
            await connection.execute(_USAGE, *_store(claim), old_space, space)
        return True

    async def delete_retired(self, claim: MigrationClaim, after: ChunkPlace, limit: int) -> ChunkPlace | None:
        async with self._fenced(claim) as connection:
            # It holds the row until the commit, so that no other run works on it meanwhile.
            await MIGRATIONS.update(connection, _lease(claim), "crashes = 0, retries = 0")
            if claim.retired_space:
                row = await connection.fetchrow(_DELETE_SPACE, *_store(claim), *after, limit, claim.retired_space)
            else:
                row = await connection.fetchrow(_CLEAR_FIRST_SPACE, *_store(claim), *after, limit)
        return None if row is None else row_to_place(row)

    async def end_retirement(self, claim: MigrationClaim) -> None:
        async with self._fenced(claim) as connection:
            await MIGRATIONS.update(connection, _lease(claim), "retired_space = NULL")

    @repeat_aborted
    async def fail(self, claim: MigrationClaim, reason: str, message: str) -> None:
        async with self._fenced(claim) as connection:
            await _locked_store(connection, claim)
            await MIGRATIONS.update(
                connection,
                _lease(claim),
                "state = 'failed', failure_reason = $1, failure_message = $2, finished_at = now()",
                reason,
                message,
            )
            await connection.execute(SET_NEXT, *_store(claim), None, None)

    async def release(self, claim: MigrationClaim, delay: timedelta, *, failed: bool) -> None:
        async with self._fenced(claim) as connection:
            await MIGRATIONS.release(connection, _lease(claim), delay, failed=failed)

    @asynccontextmanager
    async def _fenced(self, claim: MigrationClaim) -> AsyncIterator[Any]:
        """A transaction of the claim's tenant. Raises ClaimLost when the lease is lost."""
        try:
            async with self._database.tenant(claim.key.tenant_id) as connection:
                yield connection
        except LeaseLost as error:
            raise ClaimLost from error


async def _locked_store(connection: Any, claim: MigrationClaim) -> Any:
    """The store's row, locked against all who write to it. Raises ClaimLost when it is deleted."""
    row = await lock_to_change(connection, *_store(claim))
    if row is None:
        raise ClaimLost
    return row


def _lease(claim: MigrationClaim) -> Lease:
    return Lease((claim.key.tenant_id, claim.key.vector_store_id, claim.key.migration_id), claim.epoch)


def _store(claim: MigrationClaim) -> tuple[str, str]:
    return claim.key.tenant_id, claim.key.vector_store_id


def row_to_place(row: Any) -> ChunkPlace:
    return ChunkPlace(row["attachment"], row["ordinal"])


def claimed_to_claim(key: MigrationKey, claimed: Claimed) -> MigrationClaim:
    row = claimed.row
    return MigrationClaim(
        key=key,
        epoch=claimed.lease.epoch,
        space=EmbeddingSpace(row["embedding_model"], row["space"]),
        retired_space=row["retired_space"],
        principal=Principal(
            key.tenant_id, project_id=row["project_id"], key_id=row["key_id"], roles=ROLES, plan=row["plan"]
        ),
        crashes=row["crashes"] - 1,
        retries=row["retries"],
    )


def placed_vector_to_row(claim: MigrationClaim, item: PlacedVector) -> tuple[object, ...]:
    where = (*_store(claim), claim.space.number, *item.place)
    return (*where, item.vector.fingerprint, to_floats(item.vector.vector))
