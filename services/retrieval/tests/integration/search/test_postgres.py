"""Searches in Postgres: they use their indexes, also with row-level security."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from chassis.postgres import Database
from chassis.settings import PostgresSection
from retrieval.deletions.delete import delete_pending
from retrieval.embeddings.model import (
    DIMENSIONS,
    EmbeddingSpace,
    Vector,
    fingerprint,
    floats_to_vector,
    to_floats,
    vector_to_floats,
)
from retrieval.files.model import object_key
from retrieval.ingestion.postgres import KNOWN_VECTORS
from retrieval.search.indexes_postgres import index_statements
from retrieval.search.model import ChunkKey
from retrieval.search.spaces import vectors_of
from retrieval.store_migrations.model import BEFORE_ALL

from services.retrieval.tests.contracts.filters import FiltersContract
from services.retrieval.tests.contracts.search import SearchIndexContract
from services.retrieval.tests.contracts.store_migrations import NARROW, claimed, placed, start
from services.retrieval.tests.fake_peers import FakeObjectStore
from services.retrieval.tests.tenants import LONG, NOW, Tenant
from services.retrieval.tests.texts import a_vector, cosine

TEXTS = [f"chunk {n} about subject{n % 50} and matter{n % 7}" for n in range(400)]


@pytest.fixture
async def owner(section: PostgresSection) -> Any:
    assert section.owner_dsn is not None
    connection: Any = await asyncpg.connect(
        section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*"}
    )
    yield connection
    await connection.close()


def similarities(found: Sequence[ChunkKey], vector: Vector) -> list[float]:
    """How similar the chunks are, the most similar first; their ordinals are places in `TEXTS`."""
    return sorted((round(cosine(vector, a_vector(TEXTS[key.ordinal])), 4) for key in found), reverse=True)


async def plan(database: Database, tenant_id: str, query: str, *values: object) -> str:
    async with database.tenant(tenant_id) as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *values))


async def test_a_large_store_gets_an_index_that_its_searches_use(
    one: Tenant, database: Database, section: PostgresSection, owner: Any
) -> None:
    store, file = await one.indexed(*TEXTS)
    small, _ = await one.indexed("one chunk")
    asked = [small.vector_store_id, store.vector_store_id]
    vector = a_vector("chunk about subject7 and matter1")
    exact = await one.ports.index.vector_search(one.tenant_id, asked, vector, 20)

    proposed = [statement async for statement in index_statements(database, 399) if store.vector_store_id in statement]
    assert len(proposed) == 1
    await owner.execute(proposed[0])

    async with database.tenant(one.tenant_id) as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_bitmapscan = off")
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        rows = await connection.fetch(
            "EXPLAIN SELECT ordinal FROM chunks WHERE tenant_id = $1 AND vector_store_id = $2"
            " ORDER BY embedding <=> $3::real[]::halfvec LIMIT 20",
            one.tenant_id,
            store.vector_store_id,
            vector_to_floats(vector),
        )
    assert "chunks_hnsw_" in "\n".join(row[0] for row in rows)
    by_index = await one.ports.index.vector_search(one.tenant_id, asked, vector, 20)
    # Many chunks are equally similar, so the keys may differ; which plan either search had is the planner's choice.
    assert similarities(list(by_index), vector) == similarities(list(exact), vector)
    assert {key.vector_store_id for key in by_index} == {store.vector_store_id}
    # An index has candidates for 40 rows unless it is told otherwise.
    assert len(await one.ports.index.vector_search(one.tenant_id, asked, vector, 100)) == 100
    assert [s async for s in index_statements(database, 399) if store.vector_store_id.removeprefix("vs_") in s] == []

    await one.ports.files.delete(one.tenant_id, file.file_id)
    dropped = [s async for s in index_statements(database, 399) if store.vector_store_id.removeprefix("vs_") in s]
    assert dropped[0].startswith("DROP INDEX CONCURRENTLY")
    await owner.execute(dropped[0])


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("the café by the sea", "café"),
        ("Ｆｕｌｌ width", "full"),
        ("the QX-7041 module", "qx-7041"),
        ("the QX-7041 module", "QX7041"),
        ("the QX-7041 module", "7041"),
        ("the QX‑7041 module", "QX-7041"),
        ("A-7 and 12-345-678", "12345678"),
        ("請求書の支払期限は月末です", "支払期限"),
        ("本合同由甲乙双方签订", "合同"),
        ("สัญญามีผลสามสิบวัน", "สามสิบ"),
        ("계약은 서울에서 체결됩니다", "서울"),
        ("الْعَقْدُ صالح", "العقد"),
        ("العـــقد صالح", "العقد"),
        ("Он купил ЁЛКУ", "ёлку"),
        ("the vessels carried cargo", "vessel carries"),
        # Postgres' parser takes these for files, hosts, addresses and markup.
        ("a wing/body combination", "body"),
        ("the effect is /destalling/ here", "destalling"),
        ("read/write/execute", "write"),
        ("The end.Next begins", "next"),
        ("see www.quillstone.example/manual", "quillstone"),
        ("write to ada@quillstone.example", "ada"),
        ("where x <width and height> y", "height"),
        ("the field max_upload_bytes", "upload"),
        ("a mach number of 2.75", "2.75"),
        ("an e-mail came", "email"),
        ("this is a very impor-\ntant matter", "important"),
        ("a well-\nknown matter", "known"),
        ("zero\u200bwidth and \u200emarks", "zerowidth"),
        # It takes all signs beyond ASCII for letters.
        ("the “harbour” dues", "harbour"),
        ("das „Haus“ und »der Hafen«", "Hafen"),
        ("à bord de l’avion", "avion"),
        ("where is the port…", "port"),
        ("¿dónde está el puerto?", "dónde"),
        ("غادرت السفينة، ثم عادت", "السفينة"),
        ("यह बंदरगाह है।", "है"),
    ],
)
async def test_a_word_is_found_however_it_is_written(one: Tenant, text: str, query: str) -> None:
    store, _ = await one.indexed(text, "something else entirely")

    found = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], query, 5)

    assert [key.ordinal for key in found] == [0]


async def test_a_code_is_not_found_by_a_part_of_its_parts(one: Tenant) -> None:
    store, _ = await one.indexed("the QX-7041 module", "the QX-7042 module")

    found = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "QX-704 7042", 5)

    assert next(iter(found)).ordinal == 1
    assert await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "704", 5) == {}


async def test_a_compound_counts_as_its_words_alone(database: Database) -> None:
    async with database.system() as connection:
        lexemes = await connection.fetchval("SELECT array_agg(lexeme) FROM keywords($1, '{}')", "boundary-layer QX-7")

    assert sorted(lexemes) == ["7", "boundari", "layer", "qx", "qx7"]


@pytest.mark.parametrize(
    "text",
    [
        "The Boundary-layer of wing/body joins, QX-7041 and end.Next",
        "impor-\ntant well-known a-b-c-1 <x and y> user@example.com 3.14 C:\\temp",
        "I AM NOT the X-ray; ALL_CAPS and camelCase don't count",
    ],
)
async def test_words_in_ascii_are_the_same_beside_a_letter_beyond_it(database: Database, text: str) -> None:
    async def words(content: str) -> dict[str, int]:
        async with database.system() as connection:
            rows: list[Any] = await connection.fetch("SELECT * FROM keywords($1, '{}')", content)
        return {row["lexeme"]: len(row["positions"]) for row in rows}

    assert await words(f"{text} ж") == await words(text) | {"ж": 1}


async def test_lexemes_and_fingerprints_are_looked_up_by_index_under_row_level_security(
    one: Tenant, database: Database, owner: Any
) -> None:
    store, _ = await one.indexed(*(f"chunk number{n} of many" for n in range(2_000)))
    await owner.execute("ANALYZE retrieval.chunks; ANALYZE retrieval.postings")

    words = await plan(
        database,
        one.tenant_id,
        "SELECT 1 FROM postings WHERE tenant_id = $1 AND vector_store_id = ANY($2) AND lexeme = ANY($3)",
        one.tenant_id,
        [store.vector_store_id],
        ["number7", "number8"],
    )
    equal = await plan(
        database,
        one.tenant_id,
        "SELECT 1 FROM chunks WHERE tenant_id = $1 AND fingerprint = ANY($2)",
        one.tenant_id,
        [fingerprint("fake", "chunk number7 of many")],
    )

    assert "postings_pkey" in words
    assert "lexeme = ANY" in words.split("Index Cond:")[1].split("Filter:")[0]
    assert "chunks_by_fingerprint" in equal


async def test_one_row_is_read_of_a_text_that_a_tenant_has_a_thousand_times(one: Tenant, database: Database) -> None:
    await one.indexed(*(["the same footer"] * 1_000))

    read = await plan(
        database, one.tenant_id, f"(ANALYZE) {KNOWN_VECTORS}", one.tenant_id, [fingerprint("fake", "the same footer")]
    )

    assert "chunks_by_fingerprint" in read
    assert {float(rows) for rows in re.findall(r"actual time=\S+ rows=([\d.]+)", read)} == {1.0}


async def test_keywords_match_other_forms_and_cases(one: Tenant) -> None:
    store, _ = await one.indexed("The ÉCLAIRS were running late.", "Nothing here.")

    for query in ("run", "éclair", "Running Éclairs"):
        found = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], query, 9)
        assert [key.ordinal for key in found] == [0], query


async def test_a_query_of_a_page_of_text_is_answered(one: Tenant) -> None:
    store, _ = await one.indexed(*TEXTS[:50])

    found = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], " ".join(TEXTS), 100)

    assert len(found) == 50


async def test_more_than_a_thousand_chunks_are_indexed_and_deleted_in_batches(one: Tenant, database: Database) -> None:
    store, file = await one.indexed(*(f"chunk number{n} of many" for n in range(2_300)))
    for word, ordinal in (("number0", 0), ("number999", 999), ("number1000", 1000), ("number2299", 2299)):
        [key] = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], word, 9)
        assert key.ordinal == ordinal
    objects = FakeObjectStore()
    objects.stored[object_key(one.tenant_id, file.file_id)] = b"bytes"

    await one.ports.files.delete(one.tenant_id, file.file_id)
    while await delete_pending(queue=one.ports.deletions, objects=objects, chunk_batch_size=500):
        pass

    assert objects.stored == {}
    async with database.tenant(one.tenant_id) as connection:
        for table in ("chunks", "postings", "deletions", "attachments", "files"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_vectors_are_converted_to_floats_and_back() -> None:
    floats = [n / DIMENSIONS for n in range(DIMENSIONS)]
    assert vector_to_floats(floats_to_vector(floats)) == pytest.approx(floats)
    with pytest.raises(ValueError, match="3 dimensions"):
        vector_to_floats(Vector(struct.pack("<3f", 1, 2, 3)))


class TestPostgresSearchIndex(SearchIndexContract):
    pass


class TestPostgresFilters(FiltersContract):
    pass


async def test_a_large_store_that_was_migrated_has_an_index_of_its_new_space(
    one: Tenant, database: Database, owner: Any
) -> None:
    store, _ = await one.indexed(*TEXTS)
    claim = await claimed(one, await start(one, store))
    await one.ports.migration_runs.add_vectors(
        claim, placed("narrow", await one.ports.migration_runs.chunks(claim, BEFORE_ALL, 1_000)), 0, LONG
    )
    assert await one.ports.migration_runs.cut_over(claim, NOW)
    suffix = store.vector_store_id.removeprefix("vs_")
    [proposed] = [statement async for statement in index_statements(database, 399) if suffix in statement]
    await owner.execute(proposed)

    space = EmbeddingSpace("narrow", claim.space.number)
    vector = a_vector("chunk about subject7", "narrow", NARROW)
    async with database.tenant(one.tenant_id) as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_bitmapscan = off")
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        rows = await connection.fetch(
            f"EXPLAIN SELECT ordinal FROM {vectors_of(space, vector)} WHERE tenant_id = $1 AND vector_store_id = $2"
            " ORDER BY embedding <=> $3::real[]::halfvec LIMIT 20",
            one.tenant_id,
            store.vector_store_id,
            to_floats(vector),
        )
    assert f"chunks_hnsw_{suffix}_{space.number}" in "\n".join(row[0] for row in rows)
    await one.ports.stores.delete(one.tenant_id, store.vector_store_id)
    [drop] = [statement async for statement in index_statements(database, 399) if suffix in statement]
    await owner.execute(drop)
