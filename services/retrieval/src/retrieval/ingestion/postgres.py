"""The state of indexing, in Postgres: leases by its clock, writes fenced by the claim's epoch."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from chassis.postgres import Database
from chassis.tenancy import Principal

from retrieval.adapters.postgres.mapping import from_floats, to_floats
from retrieval.domain.embedding import DIMENSIONS, Vector
from retrieval.domain.ingestion import AttachmentKey, Claim, ClaimLost, EmbeddedChunk

# The event is given a head start: what is due for longer was lost, postponed, or waits behind much else.
HEAD_START = timedelta(seconds=5)
WORDED_AT_ONCE = 1_000
EMBEDDING_BYTES = 2 * DIMENSIONS
# Who spends the tenant's money here is the service, on the account of whoever attached the file.
ROLES = frozenset({"service"})

_CLAIM = """
UPDATE attachments a SET epoch = epoch + 1, crashes = crashes + 1, due_at = now() + $4
FROM files f
WHERE a.tenant_id = $1 AND a.vector_store_id = $2 AND a.file_id = $3 AND a.state = 'in_progress' AND a.due_at <= now()
  AND f.tenant_id = a.tenant_id AND f.file_id = a.file_id
RETURNING a.*, f.filename, f.size_bytes
"""
_DUE = """
SELECT tenant_id, vector_store_id, file_id FROM (
    SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY due_at) AS turn
    FROM attachments WHERE state = 'in_progress' AND due_at <= now() - $1::interval
) waiting ORDER BY turn, due_at LIMIT $2
"""
# Changes the claimed row, if the claim still holds; what changes follows, from parameter $4 on.
_FENCED = """
UPDATE attachments SET {changes}
WHERE tenant_id = $1 AND attachment = $2 AND epoch = $3 AND state = 'in_progress' RETURNING chunks, worded
"""
# One row of each, however often a tenant has the same text: in its footers, in copies of a file.
_KNOWN = """
SELECT wanted.fingerprint, one.embedding::real[] AS embedding FROM unnest($2::bytea[]) AS wanted (fingerprint)
CROSS JOIN LATERAL (
    SELECT embedding FROM chunks WHERE tenant_id = $1 AND fingerprint = wanted.fingerprint LIMIT 1
) AS one
"""
_ADD = """
INSERT INTO chunks (tenant_id, vector_store_id, attachment, ordinal, page, text, fingerprint, embedding)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::real[]::halfvec)
"""
_INDEX_WORDS = """
WITH found AS (
    SELECT c.ordinal, w.lexeme, cardinality(w.positions) AS frequency
    FROM chunks c CROSS JOIN unnest(words(c.text)) AS w
    WHERE c.tenant_id = $1 AND c.vector_store_id = $2 AND c.attachment = $3 AND c.ordinal >= $4 AND c.ordinal < $5
), measured AS (
    SELECT *, sum(frequency) OVER (PARTITION BY ordinal) AS length FROM found
), written AS (
    INSERT INTO postings (tenant_id, vector_store_id, word, attachment, first_ordinal, ordinals, frequencies, lengths)
    SELECT $1, $2, lexeme, $3, $4, array_agg(ordinal ORDER BY ordinal),
           array_agg(frequency::smallint ORDER BY ordinal), array_agg(least(length, 32767)::smallint ORDER BY ordinal)
    FROM measured GROUP BY lexeme
)
SELECT coalesce(sum(frequency), 0)::bigint FROM found
"""


class PostgresIngests:
    """Tables `attachments`, `chunks` and `postings`, as the one who indexes sees them."""

    def __init__(self, database: Database, head_start: timedelta = HEAD_START) -> None:
        self._database = database
        self._head_start = head_start

    async def claim(self, key: AttachmentKey, lease: timedelta) -> Claim | None:
        """See Ingests."""
        async with self._database.tenant(key.tenant_id) as connection:
            row = await connection.fetchrow(_CLAIM, key.tenant_id, key.vector_store_id, key.file_id, lease)
        return None if row is None else _claim(key, row)

    async def due(self, limit: int) -> list[AttachmentKey]:
        """See Ingests."""
        async with self._database.system() as connection:
            rows = await connection.fetch(_DUE, self._head_start, limit)
        return [AttachmentKey(row["tenant_id"], row["vector_store_id"], row["file_id"]) for row in rows]

    async def extend(self, claim: Claim, lease: timedelta) -> None:
        """See Ingests."""
        async with self._database.tenant(claim.key.tenant_id) as connection:
            await _fenced(connection, claim, "due_at = now() + $4", lease)

    async def known(self, tenant_id: str, fingerprints: Sequence[bytes]) -> dict[bytes, Vector]:
        """See Ingests."""
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                _KNOWN,
                tenant_id,
                list(fingerprints),
            )
        return {row["fingerprint"]: from_floats(row["embedding"]) for row in rows}

    async def add(self, claim: Claim, batch: Sequence[EmbeddedChunk], lease: timedelta) -> None:
        """See Ingests."""
        size_bytes = sum(len(item.chunk.text.encode()) + EMBEDDING_BYTES for item in batch)
        async with self._database.tenant(claim.key.tenant_id) as connection:
            await _fenced(
                connection,
                claim,
                "chunks = $4, usage_bytes = usage_bytes + $5, due_at = now() + $6, crashes = 0, retries = 0",
                batch[-1].chunk.ordinal + 1,
                size_bytes,
                lease,
            )
            await connection.executemany(_ADD, [_row(claim, item) for item in batch])

    async def index_words(self, claim: Claim, lease: timedelta) -> bool:
        """See Ingests."""
        where = (claim.key.tenant_id, claim.key.vector_store_id, claim.attachment)
        async with self._database.tenant(claim.key.tenant_id) as connection:
            row = await _fenced(connection, claim, "due_at = now() + $4", lease)
            first, last = row["worded"], min(row["worded"] + WORDED_AT_ONCE, row["chunks"])
            if first == last:
                return False
            words = await connection.fetchval(_INDEX_WORDS, *where, first, last)
            await _fenced(connection, claim, "worded = $4, words = words + $5", last, words)
        return True

    async def complete(self, claim: Claim) -> None:
        """See Ingests."""
        async with self._database.tenant(claim.key.tenant_id) as connection:
            await _fenced(connection, claim, "state = 'completed'")

    async def fail(self, claim: Claim, reason: str, message: str) -> None:
        """See Ingests."""
        async with self._database.tenant(claim.key.tenant_id) as connection:
            await _fenced(
                connection,
                claim,
                "state = 'failed', failure_reason = $4, failure_message = $5,"
                " chunks = 0, worded = 0, words = 0, usage_bytes = 0",
                reason,
                message,
            )
            await connection.execute(
                "INSERT INTO removals (tenant_id, removal_id, vector_store_id, attachment)"
                " VALUES ($1, 'attachment-' || $3::bigint, $2, $3) ON CONFLICT DO NOTHING",
                claim.key.tenant_id,
                claim.key.vector_store_id,
                claim.attachment,
            )

    async def release(self, claim: Claim, wait: timedelta, *, retry: bool) -> None:
        """See Ingests."""
        async with self._database.tenant(claim.key.tenant_id) as connection:
            await _fenced(
                connection,
                claim,
                "due_at = now() + $4, crashes = greatest(crashes - 1, 0), retries = retries + $5",
                wait,
                int(retry),
            )


async def _fenced(connection: Any, claim: Claim, changes: str, *values: object) -> Any:
    row = await connection.fetchrow(
        _FENCED.format(changes=changes), claim.key.tenant_id, claim.attachment, claim.epoch, *values
    )
    if row is None:
        raise ClaimLost
    return row


def _claim(key: AttachmentKey, row: Any) -> Claim:
    return Claim(
        key=key,
        attachment=row["attachment"],
        epoch=row["epoch"],
        chunks=row["chunks"],
        crashes=row["crashes"] - 1,
        retries=row["retries"],
        principal=Principal(key.tenant_id, project_id=row["project_id"], key_id=row["key_id"], roles=ROLES),
        filename=row["filename"],
        size_bytes=row["size_bytes"],
    )


def _row(claim: Claim, item: EmbeddedChunk) -> tuple[object, ...]:
    return (
        claim.key.tenant_id,
        claim.key.vector_store_id,
        claim.attachment,
        item.chunk.ordinal,
        item.chunk.page,
        item.chunk.text,
        item.fingerprint,
        to_floats(item.vector),
    )
