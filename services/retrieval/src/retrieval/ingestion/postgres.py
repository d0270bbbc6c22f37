"""State of ingestion in Postgres: tables `attachments` (leased), `chunks` and `postings`."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from chassis.postgres import Database, repeat_aborted
from chassis.postgres.leases import Claimed, Lease, LeaseLost
from chassis.tenancy import Principal

from retrieval.chunking.splitter import OWN_CHUNKING
from retrieval.embeddings.model import Vector, floats_to_vector
from retrieval.ingestion.chunk_rows import row_to_next_space, row_to_space
from retrieval.ingestion.finished_files_postgres import (
    ATTACHMENTS,
    FinishedFile,
    add_rows,
    claim_files,
    enqueue_indexed,
    finish_files,
    locked_spaces,
    own_vectors,
    size_bytes,
    trace_headers,
    warnings_to_json,
)
from retrieval.ingestion.languages_postgres import languages_of_texts, store_languages
from retrieval.ingestion.model import KEYWORD_BATCH_SIZE, Claim, ClaimLost, EmbeddedChunk, SpacesChanged
from retrieval.parsing.model import FileWarning
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.quotas.postgres import check_chunks, lock_chunks
from retrieval.vector_stores.attachments_postgres import row_to_chunking
from retrieval.vector_stores.model import AttachmentKey

# Events need some time. An attachment that is due for longer was lost or postponed, or waits behind many others.
OVERDUE_AFTER = timedelta(seconds=5)
# The service embeds as itself, for the project and key that attached the file.
ROLES = frozenset({"service"})

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
        return (await self.claim_files(key.tenant_id, [key], lease)).get(key)

    async def claim_files(
        self, tenant_id: str, keys: Sequence[AttachmentKey], lease: timedelta
    ) -> dict[AttachmentKey, Claim]:
        """Claim those of the tenant's attachments that can be claimed, in one transaction."""
        async with self._database.tenant(tenant_id) as connection:
            claimed = await claim_files(connection, tenant_id, keys, lease)
        return {key: claimed_to_claim(key, *rows) for key, rows in claimed.items()}

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

    @repeat_aborted
    async def add_chunks(
        self, claim: Claim, batch: Sequence[EmbeddedChunk], lease: timedelta, quota: Quota = UNLIMITED
    ) -> Claim:
        async with self._fenced(claim) as connection:
            await lock_chunks(connection, claim.key.tenant_id, quota)
            spaces = await locked_spaces(connection, claim.key.tenant_id, claim.key.vector_store_id)
            if spaces is None:
                raise ClaimLost
            if None in own_vectors(claim, batch, spaces[0]):
                raise SpacesChanged(*spaces)
            await check_chunks(connection, claim.key.tenant_id, quota, len(batch))
            await ATTACHMENTS.update(
                connection,
                _lease(claim),
                "chunks = $1, usage_bytes = usage_bytes + $2, due_at = now() + $3, crashes = 0, retries = 0",
                batch[-1].chunk.ordinal + 1,
                size_bytes(claim, batch, spaces[0]),
                lease,
            )
            await add_rows(connection, [(claim, batch)], spaces)
        return replace(claim, space=spaces[0], next_space=spaces[1])

    @repeat_aborted
    async def index_keywords(self, claim: Claim, lease: timedelta) -> bool:
        # The keywords of a thousand chunks take a while, in which searches would wait for the row of the store.
        async with self._database.tenant(claim.key.tenant_id) as connection:
            await store_languages(connection, *_chunks_of(claim), _BEFORE_KEYWORDS)
        async with self._fenced(claim) as connection:
            row = await ATTACHMENTS.lock(connection, _lease(claim))
            first, last = row["indexed_chunks"], min(row["indexed_chunks"] + KEYWORD_BATCH_SIZE, row["chunks"])
            if first == last:
                return False
            lexemes = await connection.fetchval(INDEX_KEYWORDS, *_chunks_of(claim), first, last)
            changes = f"{_LEXEME_VERSION}, indexed_chunks = $1, lexeme_count = lexeme_count + $2, due_at = now() + $3"
            await ATTACHMENTS.update(connection, _lease(claim), changes, last, lexemes, lease)
        return True

    @repeat_aborted
    async def complete(self, claim: Claim, warnings: Sequence[FileWarning] = ()) -> None:
        # In a transaction of its own, as the store is locked before the file, and the file is changed once.
        async with self._database.tenant(claim.key.tenant_id) as connection:
            await store_languages(connection, *_chunks_of(claim), _BEFORE_KEYWORDS)
        async with self._fenced(claim) as connection:
            row = await ATTACHMENTS.lock(connection, _lease(claim))
            lexemes, chunks = 0, row["chunks"]
            for first in range(row["indexed_chunks"], chunks, KEYWORD_BATCH_SIZE):
                last = min(first + KEYWORD_BATCH_SIZE, chunks)
                lexemes += await connection.fetchval(INDEX_KEYWORDS, *_chunks_of(claim), first, last)
            changes = (
                f"{_LEXEME_VERSION}, state = 'completed', warnings = $1::jsonb, indexed_chunks = $2,"
                " lexeme_count = lexeme_count + $3"
            )
            await ATTACHMENTS.update(connection, _lease(claim), changes, warnings_to_json(warnings), chunks, lexemes)
            await enqueue_indexed(connection, [(claim, trace_headers())])
        self._wake_relay()

    async def finish(
        self,
        claim: Claim,
        batch: Sequence[EmbeddedChunk],
        warnings: Sequence[FileWarning] = (),
        quota: Quota = UNLIMITED,
    ) -> None:
        (outcome,) = await self.finish_files([await finished_file(claim, batch, warnings)], quota)
        if outcome is not None:
            raise outcome

    @repeat_aborted
    async def finish_files(self, files: Sequence[FinishedFile], quota: Quota) -> list[ClaimLost | SpacesChanged | None]:
        """Finish files of one vector store in one transaction; for each what it could not be done for."""
        async with self._database.tenant(files[0].claim.key.tenant_id) as connection:
            outcomes = await finish_files(connection, files, quota)
        self._wake_relay()
        return outcomes

    @repeat_aborted
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
            await enqueue_indexed(connection, [(claim, trace_headers())], reason, message)
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


async def finished_file(claim: Claim, batch: Sequence[EmbeddedChunk], warnings: Sequence[FileWarning]) -> FinishedFile:
    languages = await languages_of_texts([item.chunk.text for item in batch])
    return FinishedFile(claim, batch, warnings, languages, trace_headers())


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
