"""Files of older rules for words are indexed anew, while they are searched."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from chassis.postgres import Database
from retrieval.languages.detect import LANGUAGES
from retrieval.reindexing import postgres as reindexing
from retrieval.reindexing.cli import reindex
from retrieval.reindexing.postgres import PostgresKeywordVersions
from retrieval.reindexing.rebuild import OutdatedFile, rebuild_outdated
from retrieval.vector_stores.model import VectorStore

from services.retrieval.tests.tenants import Tenant

VERSION = 2
SAMPLES = (
    "The vessels-\nQX-7041 café ＡＢ 請求書 العـــقد zero\u200bwidth impor-\ntant a/b c.d e@f.gh <i> 2.75 e-mail"
    " die Verträge “quoted” ёлка"
)
KEYWORDS = "63a7568d2a1c0c34c0a399e4ee09a8413756a9df2abc3b861d237469c1647652"
"""SHA-256 of the lexemes of `SAMPLES` in each language, by the rules of `VERSION`."""


@pytest.fixture
def versions(database: Database) -> PostgresKeywordVersions:
    return PostgresKeywordVersions(database)


async def state(database: Database, tenant: Tenant, store: VectorStore) -> Any:
    async with database.tenant(tenant.tenant_id) as connection:
        return await connection.fetchrow(
            "SELECT min(lexeme_version) AS version, sum(lexeme_count) AS lexemes,"
            " (SELECT count(*) FROM postings WHERE vector_store_id = $1) AS postings"
            " FROM attachments WHERE vector_store_id = $1",
            store.vector_store_id,
        )


async def outdate(database: Database, tenant: Tenant, store: VectorStore) -> None:
    """Leave the store as older rules might have: without the words of its texts."""
    async with database.tenant(tenant.tenant_id) as connection:
        await connection.execute("DELETE FROM postings WHERE vector_store_id = $1", store.vector_store_id)
        await connection.execute(
            "UPDATE attachments SET lexeme_version = 0, lexeme_count = 0 WHERE vector_store_id = $1",
            store.vector_store_id,
        )


async def found(tenant: Tenant, store: VectorStore, query: str) -> list[int]:
    keys = await tenant.ports.index.keyword_search(tenant.tenant_id, [store.vector_store_id], query, 9)
    return [key.ordinal for key in keys]


async def test_a_file_of_older_rules_is_indexed_anew_and_one_of_the_newest_is_not(
    one: Tenant, database: Database, versions: PostgresKeywordVersions
) -> None:
    store, _ = await one.indexed("the red lighthouse", "the harbour dues")
    before = await state(database, one, store)
    assert before["version"] == VERSION
    assert await rebuild_outdated(versions, store.vector_store_id) == 0
    await outdate(database, one, store)
    assert await found(one, store, "harbour") == []

    assert await rebuild_outdated(versions, store.vector_store_id) == 1

    assert await state(database, one, store) == before
    assert await found(one, store, "harbour") == [1]
    assert await rebuild_outdated(versions, store.vector_store_id) == 0


async def test_keywords_that_are_there_are_replaced_and_not_counted_twice(
    one: Tenant, database: Database, versions: PostgresKeywordVersions
) -> None:
    texts = [f"chunk {n} of harbour{n % 7}" for n in range(1_203)]
    store, _ = await one.indexed(*texts)
    before = await state(database, one, store)

    assert await reindex(versions, store.vector_store_id, every=True) == 1

    assert await state(database, one, store) == before
    assert await found(one, store, "harbour6 1202") == [1_202, *(n for n in range(6, 60, 7))][:9]


async def test_a_file_that_is_taken_out_meanwhile_leaves_no_keywords(
    one: Tenant, database: Database, versions: PostgresKeywordVersions
) -> None:
    store, file = await one.indexed("the red lighthouse")
    await versions.expire(store.vector_store_id)
    [outdated] = await versions.outdated(9, store.vector_store_id)
    await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)
    async with database.tenant(one.tenant_id) as connection:
        await connection.execute("DELETE FROM postings WHERE vector_store_id = $1", store.vector_store_id)

    assert not await versions.rebuild(outdated, 0, 1_000)
    assert (await state(database, one, store))["postings"] == 0
    assert await rebuild_outdated(versions, store.vector_store_id) == 0


async def test_tenants_take_turns(one: Tenant, other: Tenant, versions: PostgresKeywordVersions) -> None:
    stores = [(await one.indexed("first"))[0], (await one.indexed("second"))[0], (await other.indexed("third"))[0]]
    for store in stores:
        await versions.expire(store.vector_store_id)

    waiting: list[OutdatedFile] = list(await versions.outdated(1_000))
    tenants = [file.tenant_id for file in waiting if file.tenant_id in {one.tenant_id, other.tenant_id}]

    assert tenants[:2] in ([one.tenant_id, other.tenant_id], [other.tenant_id, one.tenant_id])
    for store in stores:
        await rebuild_outdated(versions, store.vector_store_id)


async def test_files_are_taken_for_outdated_a_page_at_a_time(
    one: Tenant, other: Tenant, versions: PostgresKeywordVersions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindexing, "_EXPIRE_PAGE", 2)
    store, _ = await one.indexed("first")
    for text in ("second", "third", "fourth", "fifth"):
        await one.indexed(text, store=store)
    elsewhere, _ = await other.indexed("sixth")

    assert await versions.expire(store.vector_store_id) == 5

    waiting = await versions.outdated(1_000)
    assert sum(file.vector_store_id == store.vector_store_id for file in waiting) == 5
    assert all(file.vector_store_id != elsewhere.vector_store_id for file in waiting)
    await reindex(versions, store.vector_store_id)


async def test_rules_that_change_have_a_new_number(database: Database) -> None:
    async with database.system() as connection:
        version = await connection.fetchval("SELECT keyword_rules()")
        lexemes = await connection.fetchval(
            "SELECT string_agg(concat(language, ' ', lexeme, positions), ' ' ORDER BY language, lexeme)"
            " FROM unnest($2::text[]) AS language CROSS JOIN keywords($1, ARRAY[language])",
            SAMPLES,
            sorted(LANGUAGES),
        )

    digest = hashlib.sha256(lexemes.encode()).hexdigest()
    assert (version, digest) == (VERSION, KEYWORDS), "raise keyword_rules(), VERSION and KEYWORDS together"
