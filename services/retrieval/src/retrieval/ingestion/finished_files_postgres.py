"""Statements over several files of a tenant at once, in the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from chassis.ids import new_id
from chassis.kafka import Event, Outbox
from chassis.postgres.leases import Claimed, LeaseTable
from chassis.telemetry import inject

from retrieval.embeddings.model import EmbeddingSpace
from retrieval.ingestion.chunk_rows import chunk_to_row, row_to_next_space, row_to_space, stored_bytes, vector_rows
from retrieval.ingestion.languages_postgres import ADD_TO_STORE
from retrieval.ingestion.model import (
    FILE_INDEXED_TOPIC,
    Claim,
    ClaimLost,
    EmbeddedChunk,
    SpacesChanged,
    TextVector,
    vectors_by_space,
)
from retrieval.ingestion.protos import file_indexed_to_proto
from retrieval.locks.postgres import lock_to_write
from retrieval.parsing.model import FileWarning
from retrieval.quotas.model import Quota
from retrieval.quotas.postgres import check_chunks, lock_chunks
from retrieval.vector_stores.model import AttachmentKey

# A file that is detached and attached again gets a new number, so the key is the number, not the ids.
ATTACHMENTS = LeaseTable(
    "attachments",
    key=("tenant_id", "attachment"),
    lookup=("tenant_id", "vector_store_id", "file_id"),
    claimable="state = 'in_progress'",
    crashes="crashes",
    retries="retries",
    known="spaces_epoch",
)
# In one order, so that two transactions cannot wait for each other.
_LOCK_ATTACHMENTS = """
SELECT a.attachment
FROM unnest($2::bigint[], $3::bigint[]) AS held (attachment, epoch) CROSS JOIN LATERAL (
    SELECT attachment FROM attachments
    WHERE tenant_id = $1 AND attachment = held.attachment AND epoch = held.epoch AND state = 'in_progress'
    AND chunks = 0
    FOR NO KEY UPDATE
) AS a
"""
ADD_CHUNK = """
INSERT INTO chunks (tenant_id, vector_store_id, attachment, ordinal, page, text, fingerprint, embedding)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::real[]::halfvec)
"""
ADD_VECTORS = """
INSERT INTO chunk_vectors (tenant_id, vector_store_id, space, attachment, ordinal, fingerprint, embedding)
VALUES ($1, $2, $3, $4, $5, $6, $7::real[]::halfvec) ON CONFLICT DO NOTHING
"""
# The subquery is not merged into the join: each file's chunks are read by the key, whatever the statistics say.
_INDEX_KEYWORDS = """
WITH found AS (
    SELECT file.attachment, c.ordinal, l.lexeme, cardinality(l.positions) AS frequency
    FROM unnest($3::bigint[], $4::text[]) AS file (attachment, languages)
    CROSS JOIN LATERAL (
        SELECT ordinal, text FROM chunks
        WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = file.attachment
        OFFSET 0
    ) AS c CROSS JOIN LATERAL keywords(c.text, string_to_array(file.languages, ',')) AS l
), measured AS (
    SELECT *, sum(frequency) OVER (PARTITION BY attachment, ordinal) AS length FROM found
), written AS (
    INSERT INTO postings (tenant_id, vector_store_id, lexeme, attachment, first_ordinal, ordinals, frequencies, lengths)
    SELECT $1, $2, lexeme, attachment, 0, array_agg(ordinal ORDER BY ordinal),
           array_agg(frequency::smallint ORDER BY ordinal), array_agg(least(length, 32767)::smallint ORDER BY ordinal)
    FROM measured GROUP BY attachment, lexeme
)
SELECT attachment, sum(frequency)::bigint AS lexemes FROM found GROUP BY attachment
"""
_COMPLETE = """
UPDATE attachments AS a SET state = 'completed', crashes = 0, retries = 0, warnings = done.warnings::jsonb,
    chunks = done.chunks, usage_bytes = done.bytes, lexeme_count = done.lexemes, indexed_chunks = done.chunks,
    lexeme_version = keyword_rules(), languages = string_to_array(done.languages, ',')
FROM unnest($2::bigint[], $3::integer[], $4::bigint[], $5::bigint[], $6::text[], $7::text[])
    AS done (attachment, chunks, bytes, lexemes, languages, warnings)
WHERE a.tenant_id = $1 AND a.attachment = done.attachment
"""
_FILES = """
SELECT f.file_id, s.vector_store_id, f.filename, f.size_bytes,
       s.embedding_model, s.space, s.next_embedding_model, s.next_space
FROM unnest($2::text[], $3::text[]) AS wanted (vector_store_id, file_id)
CROSS JOIN LATERAL (SELECT * FROM files WHERE tenant_id = $1 AND file_id = wanted.file_id OFFSET 0) AS f
CROSS JOIN LATERAL (
    SELECT * FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = wanted.vector_store_id OFFSET 0
) AS s
"""


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """All chunks of a claimed file, and what was left out of it.

    `languages` are those of its text. `headers` are those of the event that the file is indexed; they name the trace.
    """

    claim: Claim
    batch: Sequence[EmbeddedChunk]
    warnings: Sequence[FileWarning]
    languages: Sequence[str]
    headers: Mapping[str, str]

    @property
    def language_names(self) -> str:
        """In one string, because an array of arrays of different lengths is none in Postgres."""
        return ",".join(self.languages)


async def claim_files(
    connection: Any, tenant_id: str, keys: Sequence[AttachmentKey], lease: timedelta
) -> dict[AttachmentKey, tuple[Claimed, Any]]:
    """Claim those of the files that can be claimed. Returns each with the row of its file and store."""
    lookups = [(tenant_id, key.vector_store_id, key.file_id) for key in keys]
    claimed = await ATTACHMENTS.claim_some(connection, lookups, lease)
    if not claimed:
        return {}
    places = [(one.row["vector_store_id"], one.row["file_id"]) for one in claimed]
    # The foreign key keeps the files as long as this transaction holds the attachments.
    rows = await connection.fetch(_FILES, tenant_id, *map(list, zip(*places, strict=True)))
    files = {(row["vector_store_id"], row["file_id"]): row for row in rows}
    return {AttachmentKey(tenant_id, *place): (one, files[place]) for one, place in zip(claimed, places, strict=True)}


async def finish_files(
    connection: Any, files: Sequence[FinishedFile], quota: Quota
) -> list[ClaimLost | SpacesChanged | None]:
    """Store the chunks of files of one vector store and complete them; for each what it could not be done for.

    Raises StorageQuotaExceeded when there is no room for the chunks of all.
    """
    tenant_id, store_id = files[0].claim.key.tenant_id, files[0].claim.key.vector_store_id
    await lock_chunks(connection, tenant_id, quota)
    languages = sorted({language for file in files for language in file.languages})
    if languages:
        # Before the weaker lock of the spaces. Where a claim is lost, the store has a language too many.
        await connection.execute(ADD_TO_STORE, tenant_id, store_id, languages)
    spaces = await locked_spaces(connection, tenant_id, store_id)
    if spaces is None:
        return [ClaimLost() for _ in files]
    space, next_space = spaces
    held = await _lock_attachments(connection, tenant_id, [file.claim for file in files])
    outcomes: list[ClaimLost | SpacesChanged | None] = []
    for file in files:
        if file.claim.attachment not in held:
            outcomes.append(ClaimLost())
        elif None in own_vectors(file.claim, file.batch, space):
            outcomes.append(SpacesChanged(space, next_space))
        else:
            outcomes.append(None)
    done = [file for file, outcome in zip(files, outcomes, strict=True) if outcome is None]
    if done:
        await check_chunks(connection, tenant_id, quota, sum(len(file.batch) for file in done))
        await _complete(connection, done, (space, next_space))
    return outcomes


def own_vectors(claim: Claim, batch: Sequence[EmbeddedChunk], space: EmbeddingSpace) -> list[TextVector | None]:
    """The vectors of a batch in the space of the store; None for those that it does not have."""
    return vectors_by_space(claim, batch).get(space.number) or [None] * len(batch)


async def add_rows(
    connection: Any,
    files: Sequence[tuple[Claim, Sequence[EmbeddedChunk]]],
    spaces: tuple[EmbeddingSpace, EmbeddingSpace | None],
) -> None:
    """Insert the chunks of files of one store with their vectors in these spaces, its own first."""
    space, _ = spaces
    rows = [
        chunk_to_row(claim, space, item, own)
        for claim, batch in files
        for item, own in zip(batch, own_vectors(claim, batch, space), strict=True)
        if own is not None
    ]
    await connection.executemany(ADD_CHUNK, rows)
    for live in filter(None, spaces):
        if live.number:
            found = [
                row
                for claim, batch in files
                if (vectors := vectors_by_space(claim, batch).get(live.number))
                for row in vector_rows(claim, live, batch, vectors)
            ]
            await connection.executemany(ADD_VECTORS, found)


def size_bytes(claim: Claim, batch: Sequence[EmbeddedChunk], space: EmbeddingSpace) -> int:
    """What the chunks use of their store."""
    own = [one for one in own_vectors(claim, batch, space) if one is not None]
    return sum(len(item.chunk.text.encode()) for item in batch) + sum(map(stored_bytes, own))


def trace_headers() -> dict[str, str]:
    headers: dict[str, str] = {}
    inject(headers)
    return headers


async def enqueue_indexed(
    connection: Any, claims: Sequence[tuple[Claim, Mapping[str, str]]], reason: str = "", message: str = ""
) -> None:
    """Publish, with the transaction, that the indexing of files is over; a reason says that it failed."""
    now = await connection.fetchval("SELECT now()")
    await Outbox.enqueue_all(
        connection,
        [
            Event(
                claim.key.tenant_id,
                new_id("out_"),
                FILE_INDEXED_TOPIC,
                file_indexed_to_proto(claim, now, reason, message).SerializeToString(),
                headers,
            )
            for claim, headers in claims
        ],
    )


async def locked_spaces(
    connection: Any, tenant_id: str, store_id: str
) -> tuple[EmbeddingSpace, EmbeddingSpace | None] | None:
    """The store's space and next one, which do not change before the end of the transaction; None without a store."""
    row = await lock_to_write(connection, tenant_id, store_id)
    return None if row is None else (row_to_space(row), row_to_next_space(row))


async def _lock_attachments(connection: Any, tenant_id: str, claims: Sequence[Claim]) -> set[int]:
    """Those of the claimed attachments whose lease is held."""
    numbers = sorted((claim.attachment, claim.epoch) for claim in claims)
    rows = await connection.fetch(_LOCK_ATTACHMENTS, tenant_id, *map(list, zip(*numbers, strict=True)))
    return {row["attachment"] for row in rows}


async def _complete(
    connection: Any,
    files: Sequence[FinishedFile],
    spaces: tuple[EmbeddingSpace, EmbeddingSpace | None],
) -> None:
    claims = [file.claim for file in files]
    tenant_id, store_id = claims[0].key.tenant_id, claims[0].key.vector_store_id
    await add_rows(connection, [(file.claim, file.batch) for file in files], spaces)
    numbers = [claim.attachment for claim in claims]
    languages = [file.language_names for file in files]
    rows = await connection.fetch(_INDEX_KEYWORDS, tenant_id, store_id, numbers, languages)
    lexemes = {row["attachment"]: row["lexemes"] for row in rows}
    await connection.execute(
        _COMPLETE,
        tenant_id,
        numbers,
        [len(file.batch) for file in files],
        [size_bytes(file.claim, file.batch, spaces[0]) for file in files],
        [lexemes.get(number, 0) for number in numbers],
        languages,
        [warnings_to_json(file.warnings) for file in files],
    )
    await enqueue_indexed(connection, [(file.claim, file.headers) for file in files])


def warnings_to_json(warnings: Sequence[FileWarning]) -> str:
    return orjson.dumps([{"code": item.code, "message": item.message} for item in warnings]).decode()
