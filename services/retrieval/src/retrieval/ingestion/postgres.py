"""State of ingestion in Postgres: tables `attachments` (leased), `chunks` and `postings`."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
from chassis.kafka import Outbox
from chassis.postgres import Database
from chassis.postgres.leases import Claimed, Lease, LeaseLost, LeaseTable
from chassis.tenancy import Principal

from retrieval.chunking.splitter import OWN_CHUNKING
from retrieval.embeddings.model import EmbeddingSpace, Vector, floats_to_vector
from retrieval.ingestion.chunk_rows import chunk_to_row, row_to_next_space, row_to_space, stored_bytes, vector_rows
from retrieval.ingestion.languages_postgres import store_languages
from retrieval.ingestion.model import (
    FILE_INDEXED_TOPIC,
    KEYWORD_BATCH_SIZE,
    Claim,
    ClaimLost,
    EmbeddedChunk,
    SpacesChanged,
    vectors_by_space,
)
from retrieval.ingestion.protos import file_indexed_to_proto
from retrieval.parsing.model import FileWarning
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.quotas.postgres import check_chunks
from retrieval.vector_stores.attachments_postgres import row_to_chunking
from retrieval.vector_stores.model import AttachmentKey

# Events need some time. An attachment that is due for longer was lost or postponed, or waits behind many others.
OVERDUE_AFTER = timedelta(seconds=5)
# The service embeds as itself, for the project and key that attached the file.
ROLES = frozenset({"service"})

# A file that is detached and attached again gets a new number, so the key is the number, not the ids.
ATTACHMENTS = LeaseTable(
    "attachments",
    key=("tenant_id", "attachment"),
    lookup=("tenant_id", "vector_store_id", "file_id"),
    claimable="state = 'in_progress'",
    crashes="crashes",
    retries="retries",
)

# One row for each fingerprint, because a tenant may have the same text thousands of times, for example as a footer.
# The tenant comes from a subquery: the planner does not look its value up in the statistics. It would take the rows of
# a tenant that is new since the last ANALYZE for one row, and read all of them for each fingerprint.
KNOWN_VECTORS = """
SELECT wanted.fingerprint, one.embedding::real[] AS embedding FROM unnest($2::bytea[]) AS wanted (fingerprint)
CROSS JOIN LATERAL (
    SELECT embedding::halfvec FROM chunks
    WHERE tenant_id = (SELECT $1::text) AND fingerprint = wanted.fingerprint AND embedding IS NOT NULL
    UNION ALL
    SELECT embedding FROM chunk_vectors WHERE tenant_id = (SELECT $1::text) AND fingerprint = wanted.fingerprint
    LIMIT 1
) AS one
"""
_FILE = """
SELECT f.filename, f.size_bytes, s.embedding_model, s.space, s.next_embedding_model, s.next_space
FROM files f JOIN vector_stores s ON s.tenant_id = f.tenant_id AND s.vector_store_id = $3
WHERE f.tenant_id = $1 AND f.file_id = $2
"""
# The lock keeps the store from changing to another space before the commit. It comes before that of the attachment, as
# where a store is deleted.
_LOCK_SPACES = """
SELECT embedding_model, space, next_embedding_model, next_space FROM vector_stores
WHERE tenant_id = $1 AND vector_store_id = $2 FOR KEY SHARE
"""
_ADD_CHUNK = """
INSERT INTO chunks (tenant_id, vector_store_id, attachment, ordinal, page, text, fingerprint, embedding)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::real[]::halfvec)
"""
ADD_VECTORS = """
INSERT INTO chunk_vectors (tenant_id, vector_store_id, space, attachment, ordinal, fingerprint, embedding)
VALUES ($1, $2, $3, $4, $5, $6, $7::real[]::halfvec) ON CONFLICT DO NOTHING
"""
INDEX_KEYWORDS = """
WITH found AS (
    SELECT c.ordinal, l.lexeme, cardinality(l.positions) AS frequency FROM chunks c CROSS JOIN LATERAL keywords(
        c.text, (SELECT languages FROM attachments WHERE tenant_id = $1 AND attachment = $3)
    ) AS l
    WHERE c.tenant_id = $1 AND c.vector_store_id = $2 AND c.attachment = $3 AND c.ordinal >= $4 AND c.ordinal < $5
), measured AS (
    SELECT *, sum(frequency) OVER (PARTITION BY ordinal) AS length FROM found
), written AS (
    INSERT INTO postings (tenant_id, vector_store_id, lexeme, attachment, first_ordinal, ordinals, frequencies, lengths)
    SELECT $1, $2, lexeme, $3, $4, array_agg(ordinal ORDER BY ordinal),
           array_agg(frequency::smallint ORDER BY ordinal), array_agg(least(length, 32767)::smallint ORDER BY ordinal)
    FROM measured GROUP BY lexeme
)
SELECT coalesce(sum(frequency), 0)::bigint FROM found
"""

# The older version, where the rules change between two batches: the file is indexed anew then.
_LEXEME_VERSION = "lexeme_version = least(CASE WHEN indexed_chunks > 0 THEN lexeme_version END, keyword_rules())"

# A file keeps its languages from its first keyword to its last one.
_BEFORE_KEYWORDS = "state = 'in_progress' AND indexed_chunks = 0"


class PostgresIngestionStore:
    """Implements IngestionStore."""

    def __init__(
        self,
        database: Database,
        overdue_after: timedelta = OVERDUE_AFTER,
        wake_relay: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake_relay` is called after a commit with an event, so that the relay does not wait for its next poll."""
        self._database = database
        self._overdue_after = overdue_after
        self._wake_relay = wake_relay

    async def claim(self, key: AttachmentKey, lease: timedelta) -> Claim | None:
        async with self._database.tenant(key.tenant_id) as connection:
            lookup = (key.tenant_id, key.vector_store_id, key.file_id)
            claimed = await ATTACHMENTS.claim_one(connection, lookup, lease)
            if claimed is None:
                return None
            # The foreign key keeps the file as long as this transaction holds the attachment.
            file = await connection.fetchrow(_FILE, key.tenant_id, key.file_id, key.vector_store_id)
        return claimed_to_claim(key, claimed, file)

    async def overdue(self, limit: int) -> list[AttachmentKey]:
        found = await ATTACHMENTS.overdue(self._database.system(), limit, self._overdue_after)
        return [AttachmentKey(*lookup) for lookup in found]

    async def extend(self, claim: Claim, lease: timedelta) -> None:
        async with self._fenced(claim) as connection:
            await ATTACHMENTS.extend(connection, _lease(claim), lease)

    async def known_vectors(self, tenant_id: str, fingerprints: Sequence[bytes]) -> dict[bytes, Vector]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(KNOWN_VECTORS, tenant_id, list(fingerprints))
        return {row["fingerprint"]: floats_to_vector(row["embedding"]) for row in rows}

    async def add_chunks(
        self, claim: Claim, batch: Sequence[EmbeddedChunk], lease: timedelta, quota: Quota = UNLIMITED
    ) -> Claim:
        async with self._fenced(claim) as connection:
            space, next_space = await _locked_spaces(connection, claim)
            vectors = vectors_by_space(claim, batch)
            own = [one for one in vectors.get(space.number, ()) if one is not None]
            if len(own) < len(batch):
                raise SpacesChanged(space, next_space)
            await check_chunks(connection, claim.key.tenant_id, quota, len(batch))
            claim = replace(claim, space=space, next_space=next_space)
            size_bytes = sum(len(item.chunk.text.encode()) for item in batch) + sum(map(stored_bytes, own))
            await ATTACHMENTS.update(
                connection,
                _lease(claim),
                "chunks = $1, usage_bytes = usage_bytes + $2, due_at = now() + $3, crashes = 0, retries = 0",
                batch[-1].chunk.ordinal + 1,
                size_bytes,
                lease,
            )
            rows = [chunk_to_row(claim, item, one) for item, one in zip(batch, own, strict=True)]
            await connection.executemany(_ADD_CHUNK, rows)
            for live in filter(None, (space, next_space)):
                if live.number and live.number in vectors:
                    await connection.executemany(ADD_VECTORS, vector_rows(claim, live, batch, vectors[live.number]))
        return claim

    async def index_keywords(self, claim: Claim, lease: timedelta) -> bool:
        # The keywords of a thousand chunks take a while, in which searches would wait for the row of the store.
        async with self._database.tenant(claim.key.tenant_id) as connection:
            await store_languages(connection, *_chunks_of(claim), _BEFORE_KEYWORDS)
        async with self._fenced(claim) as connection:
            row = await ATTACHMENTS.update(connection, _lease(claim), "due_at = now() + $1", lease)
            first, last = row["indexed_chunks"], min(row["indexed_chunks"] + KEYWORD_BATCH_SIZE, row["chunks"])
            if first == last:
                return False
            lexemes = await connection.fetchval(INDEX_KEYWORDS, *_chunks_of(claim), first, last)
            changes = f"{_LEXEME_VERSION}, indexed_chunks = $1, lexeme_count = lexeme_count + $2"
            await ATTACHMENTS.update(connection, _lease(claim), changes, last, lexemes)
        return True

    async def complete(self, claim: Claim, warnings: Sequence[FileWarning] = ()) -> None:
        left_out = orjson.dumps([{"code": item.code, "message": item.message} for item in warnings]).decode()
        async with self._fenced(claim) as connection:
            await store_languages(connection, *_chunks_of(claim), _BEFORE_KEYWORDS)
            row = await ATTACHMENTS.update(connection, _lease(claim), "due_at = due_at")
            lexemes, chunks = 0, row["chunks"]
            for first in range(row["indexed_chunks"], chunks, KEYWORD_BATCH_SIZE):
                last = min(first + KEYWORD_BATCH_SIZE, chunks)
                lexemes += await connection.fetchval(INDEX_KEYWORDS, *_chunks_of(claim), first, last)
            changes = (
                f"{_LEXEME_VERSION}, state = 'completed', warnings = $1::jsonb, indexed_chunks = $2,"
                " lexeme_count = lexeme_count + $3"
            )
            await ATTACHMENTS.update(connection, _lease(claim), changes, left_out, chunks, lexemes)
            await _enqueue_indexed(connection, claim)
        self._wake_relay()

    async def fail(self, claim: Claim, reason: str, message: str) -> None:
        async with self._fenced(claim) as connection:
            await ATTACHMENTS.update(
                connection,
                _lease(claim),
                "state = 'failed', failure_reason = $1, failure_message = $2,"
                " chunks = 0, indexed_chunks = 0, lexeme_count = 0, usage_bytes = 0",
                reason,
                message,
            )
            await connection.execute(
                "INSERT INTO deletions (tenant_id, deletion_id, vector_store_id, attachment)"
                " VALUES ($1, 'attachment-' || $3::bigint, $2, $3) ON CONFLICT DO NOTHING",
                claim.key.tenant_id,
                claim.key.vector_store_id,
                claim.attachment,
            )
            await _enqueue_indexed(connection, claim, reason, message)
        self._wake_relay()

    async def release(self, claim: Claim, delay: timedelta, *, failed: bool) -> None:
        async with self._fenced(claim) as connection:
            await ATTACHMENTS.release(connection, _lease(claim), delay, failed=failed)

    @asynccontextmanager
    async def _fenced(self, claim: Claim) -> AsyncIterator[Any]:
        """A transaction of the claim's tenant. Raises ClaimLost when the lease is lost."""
        try:
            async with self._database.tenant(claim.key.tenant_id) as connection:
                yield connection
        except LeaseLost as error:
            raise ClaimLost from error


async def _enqueue_indexed(connection: Any, claim: Claim, reason: str = "", message: str = "") -> None:
    """Publish, with the transaction, that the indexing of a file is over; a reason says that it failed."""
    now = await connection.fetchval("SELECT now()")
    event = file_indexed_to_proto(claim, now, reason, message)
    await Outbox.enqueue(connection, FILE_INDEXED_TOPIC, claim.key.tenant_id, event.SerializeToString())


def _chunks_of(claim: Claim) -> tuple[str, str, int]:
    """The key of an attachment's chunks, without their ordinals."""
    return claim.key.tenant_id, claim.key.vector_store_id, claim.attachment


def _lease(claim: Claim) -> Lease:
    return Lease((claim.key.tenant_id, claim.attachment), claim.epoch)


def claimed_to_claim(key: AttachmentKey, claimed: Claimed, file: Any) -> Claim:
    row = claimed.row
    return Claim(
        key=key,
        attachment=row["attachment"],
        epoch=claimed.lease.epoch,
        chunks=row["chunks"],
        crashes=row["crashes"] - 1,
        retries=row["retries"],
        principal=Principal(
            key.tenant_id, project_id=row["project_id"], key_id=row["key_id"], roles=ROLES, plan=row["plan"]
        ),
        filename=file["filename"],
        size_bytes=file["size_bytes"],
        chunking=row_to_chunking(row) or OWN_CHUNKING,
        space=row_to_space(file),
        next_space=row_to_next_space(file),
    )


async def _locked_spaces(connection: Any, claim: Claim) -> tuple[EmbeddingSpace, EmbeddingSpace | None]:
    """The store's space and next one, which do not change before the end of the transaction. Raises ClaimLost."""
    row = await connection.fetchrow(_LOCK_SPACES, claim.key.tenant_id, claim.key.vector_store_id)
    if row is None:
        raise ClaimLost
    return row_to_space(row), row_to_next_space(row)
