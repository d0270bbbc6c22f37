"""What an HNSW index adds to ingestion: chunks that are added to a large store with its index, and without it."""

import time
from pathlib import Path
from typing import Any

import asyncpg
from chassis.settings import PostgresSection

BATCH, BATCHES = 32, 8
"""Chunks that are added in one statement, as by ingestion, and how often."""

_NEW_CHUNKS = """
SELECT n, (SELECT array_agg(random() - 0.5 + 0 * n * place) FROM generate_series(1, 384) AS place)::halfvec AS embedding
FROM generate_series(1, $1) AS n
"""
_ADD = """
INSERT INTO chunks (tenant_id, vector_store_id, attachment, ordinal, page, text, fingerprint, embedding)
SELECT $1, $2, $3::bigint, n, 1, 'text', sha256(n::text::bytea), embedding::halfvec
FROM unnest($4::integer[], $5::text[]) AS given (n, embedding)
"""


async def insert_milliseconds(section: PostgresSection, store: tuple[str, str]) -> float:
    """CPU of Postgres for each chunk that is added to the store, in milliseconds; nothing is kept.

    On a server on another machine, the time that it takes.
    """
    assert section.owner_dsn is not None
    settings = {"argosy.tenant": "*", "search_path": "retrieval,public"}
    owner: Any = await asyncpg.connect(section.owner_dsn.get_secret_value(), server_settings=settings)
    try:
        pid = await owner.fetchval("SELECT pg_backend_pid()")
        spent = 0.0
        transaction = owner.transaction()
        await transaction.start()
        for batch in range(BATCHES + 1):
            rows = await owner.fetch(_NEW_CHUNKS, BATCH)
            numbers = [batch * BATCH + row["n"] for row in rows]
            began = _milliseconds(pid)
            await owner.execute(_ADD, *store, -1, numbers, [str(row["embedding"]) for row in rows])
            if batch:  # the first one fills caches
                spent += _milliseconds(pid) - began
        await transaction.rollback()
    finally:
        await owner.close()
    return spent / BATCH / BATCHES


def _milliseconds(pid: int) -> float:
    """CPU that a process has used, by Linux; the clock where the process is not on this machine."""
    statistics = Path(f"/proc/{pid}/schedstat")
    if statistics.exists() and Path(f"/proc/{pid}/comm").read_text().startswith("postgres"):
        return int(statistics.read_text().split()[0]) / 1e6
    return time.perf_counter() * 1e3
