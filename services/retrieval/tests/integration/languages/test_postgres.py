"""A word is found in the other forms that the language of its file gives it, and always as it is written."""

from __future__ import annotations

import random
import re

import pytest
from chassis.postgres import Database
from chassis.testing import a_principal
from retrieval.ingestion.postgres import PostgresIngestionStore, finished_file
from retrieval.languages.detect import LANGUAGES
from retrieval.quotas.model import UNLIMITED
from retrieval.reindexing.postgres import PostgresKeywordVersions
from retrieval.reindexing.rebuild import rebuild_outdated
from retrieval.search.query_lexemes import MAX_LEXEMES, QUERY_LEXEMES
from retrieval.vector_stores.model import VectorStore

from services.retrieval.tests.languages import SENTENCES, Sentence
from services.retrieval.tests.tenants import Tenant, embedded

ENGLISH, GERMAN, FRENCH = SENTENCES[:3]
RUSSIAN = next(sentence for sentence in SENTENCES if sentence.language == "russian")
NOTHING = "zorb quix vemt plok"


async def found(tenant: Tenant, store: VectorStore, query: str) -> list[int]:
    keys = await tenant.ports.index.keyword_search(tenant.tenant_id, [store.vector_store_id], query, 50)
    return [key.ordinal for key in keys]


async def languages(database: Database, tenant: Tenant, store: VectorStore) -> tuple[list[str], list[list[str]]]:
    """Those of the store, and those of its files."""
    async with database.tenant(tenant.tenant_id) as connection:
        of_store = await connection.fetchval(
            "SELECT languages FROM vector_stores WHERE vector_store_id = $1", store.vector_store_id
        )
        of_files = await connection.fetch(
            "SELECT languages FROM attachments WHERE vector_store_id = $1 ORDER BY attachment", store.vector_store_id
        )
    return of_store, [row["languages"] for row in of_files]


async def words_of_version_1(database: Database, tenant: Tenant, store: VectorStore) -> None:
    """Leave the files of the store as the version before did: in English alone."""
    async with database.tenant(tenant.tenant_id) as connection:
        await connection.execute("DELETE FROM postings WHERE vector_store_id = $1", store.vector_store_id)
        await connection.execute(
            "INSERT INTO postings"
            " (tenant_id, vector_store_id, lexeme, attachment, first_ordinal, ordinals, frequencies, lengths)"
            " SELECT tenant_id, vector_store_id, lexeme, attachment, 0, array_agg(ordinal ORDER BY ordinal),"
            " array_agg(cardinality(positions)::smallint ORDER BY ordinal), array_agg(20::smallint)"
            " FROM chunks CROSS JOIN unnest(lexemes(text)) WHERE vector_store_id = $1 GROUP BY 1, 2, 3, 4",
            store.vector_store_id,
        )
        await connection.execute(
            "UPDATE attachments SET lexeme_version = lexemes_version(), languages = '{}' WHERE vector_store_id = $1",
            store.vector_store_id,
        )
        await connection.execute(
            "UPDATE vector_stores SET languages = '{}' WHERE vector_store_id = $1", store.vector_store_id
        )


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.language)
async def test_a_word_is_found_by_another_form_of_it(one: Tenant, sentence: Sentence) -> None:
    store, _ = await one.indexed(NOTHING, sentence.text)

    for query in (sentence.asked, sentence.form, sentence.asked.upper(), f"“{sentence.asked}”?"):
        assert await found(one, store, query) == [1], query


@pytest.mark.parametrize(
    ("of", "text", "query"),
    [
        ("german", "Die Haeuser am Fluss wurden verkauft, und der Kaeufer hat den Preis bezahlt.", "Häuser Käufers"),
        ("german", "Die Häuser in der Hafenstraße wurden gestern an den neuen Käufer verkauft.", "HAFENSTRASSE"),
        ("german", "Die Mauern wurden neu gebaut, und die Bauern zahlten die Quelle aus ihrem Steuertopf.", "Quelle"),
        ("french", "Le pilote a quitté l’avion avant que les passagers ne soient descendus sur la piste.", "avions"),
        ("french", "Le pilote a quitté l'avion avant que les passagers ne soient descendus sur la piste.", "avions"),
        ("turkish", "Geminin sahibi ışıkları yaktı ve limandan ayrılmadan önce bütün ücretleri ödedi.", "ışık"),
        ("russian", "Все ёлки были проданы до праздника, и владелец магазина закрыл его на две недели.", "елка"),
        ("arabic", "قرأ الطالب الدرس والكتاب في المكتبة ثم عاد إلى بيته قبل غروب الشمس مع أصدقائه.", "كتاب"),
        ("arabic", "بدأ المعلم بالكتاب الجديد في المدرسة ثم عاد إلى بيته قبل غروب الشمس مع أصدقائه.", "الكتاب"),
        (
            "hungarian",
            "A hajó tulajdonosa a házakban lakó munkásoknak fizetett, mielőtt elhagyta a kikötőt.",
            "ház",
        ),
        ("finnish", "Omistaja kävi taloissa ja maksoi satamamaksut ennen kuin laiva lähti satamasta merelle.", "talo"),
    ],
)
async def test_ways_to_write_a_word_are_one(one: Tenant, database: Database, of: str, text: str, query: str) -> None:
    store, _ = await one.indexed(NOTHING, text)

    assert (await languages(database, one, store))[1] == [[of]]
    assert await found(one, store, query) == [1]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Die Donaudampfschifffahrt wurde eingestellt, und der Vertrag mit der Reederei ist gekündigt.", "Schifffahrt"),
        ("O dono do aeroporto vendeu os aviões antes do fim do ano, sem que houvesse acordo.", "avião"),
        ("GEMİNİN SAHİBİ IŞIKLARI YAKTI VE LİMANDAN AYRILMADAN ÖNCE BÜTÜN ÜCRETLERİ ÖDEDİ.", "ışık"),
    ],
)
async def test_parts_of_compounds_and_some_forms_are_not_covered(one: Tenant, text: str, query: str) -> None:
    """The service's README says so. Where one of these is found, change it."""
    store, _ = await one.indexed(NOTHING, text)

    assert await found(one, store, query) == []


async def test_each_word_of_a_store_of_many_languages_is_found_as_it_is_written(
    one: Tenant, database: Database
) -> None:
    store = await one.store()
    for sentence in SENTENCES:
        await one.indexed(sentence.text, store=store)
    async with database.tenant(one.tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT attachment, text FROM chunks WHERE vector_store_id = $1", store.vector_store_id
        )
        stop_words = {row["word"] for row in await connection.fetch(_STOP_WORDS, [row["text"] for row in rows])}
    numbers = {row["text"]: row["attachment"] for row in rows}
    dice = random.Random(5)

    assert set((await languages(database, one, store))[0]) == LANGUAGES - _WITHOUT_SENTENCE - {"english"}
    for sentence in SENTENCES:
        words = [word for word in re.findall(r"[^\s.,।]+", sentence.text) if word.lower() not in stop_words]
        for word in dice.sample(words, 4):
            keys = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], word, 50)
            assert numbers[sentence.text] in {key.attachment for key in keys}, word


# Words that English leaves out, as they are in the texts.
_STOP_WORDS = """
SELECT DISTINCT word FROM unnest($1::text[]) AS text CROSS JOIN regexp_split_to_table(lower(text), '[ .,]+') AS word
WHERE to_tsvector('pg_catalog.english', word) = ''
"""
_WITHOUT_SENTENCE = {"armenian", "basque", "catalan", "irish", "nepali", "serbian", "tamil"}


async def test_a_store_keeps_the_languages_of_its_files(one: Tenant, database: Database) -> None:
    store, _ = await one.indexed(ENGLISH.text)
    await one.indexed("Preis 12.50", "QX-7041", store=store)
    assert await languages(database, one, store) == ([], [[], []])

    await one.indexed(GERMAN.text, FRENCH.text, store=store)
    await one.indexed(GERMAN.text, ENGLISH.text, store=store)

    expected = ["english", "french", "german"], [[], [], ["french", "german"], ["english", "german"]]
    assert await languages(database, one, store) == expected
    assert await found(one, store, "maisons") == [1]
    assert await found(one, store, "Haus") == [0, 0]
    assert await found(one, store, "vessel") == [0, 1]


async def test_a_text_of_no_clear_language_has_english_stems(one: Tenant) -> None:
    store, _ = await one.indexed("Vessels: 12, Häuser: 13", NOTHING)

    assert await found(one, store, "vessel") == [0]
    assert await found(one, store, "Häuser") == [0]
    assert await found(one, store, "Haus") == []


async def test_codes_and_numbers_have_no_stems(one: Tenant, database: Database) -> None:
    text = f"{GERMAN.text} Modul QX-7041en, Teil 12.50, Häuser."
    store, _ = await one.indexed(text, NOTHING)

    for query in ("QX-7041en", "qx7041en", "12.50"):
        assert await found(one, store, query) == [0]
    assert await found(one, store, "QX7041") == []


async def test_a_long_file_keeps_its_language_between_batches(one: Tenant, database: Database) -> None:
    texts = [f"{GERMAN.text} Abschnitt {n}" for n in range(1_100)]
    store, _ = await one.indexed(*texts)

    async with database.tenant(one.tenant_id) as connection:
        lexemes = await connection.fetch(
            "SELECT lexeme, sum(cardinality(ordinals)) AS chunks FROM postings WHERE vector_store_id = $1"
            " AND lexeme LIKE 'h_us%' GROUP BY lexeme",
            store.vector_store_id,
        )
    assert [tuple(row) for row in lexemes] == [("haus", 1_100)]


async def test_files_that_are_finished_together_have_a_language_each(one: Tenant, database: Database) -> None:
    store, claims = await one.store(), []
    for _ in range(3):
        file = await one.file()
        await one.ports.stores.attach(a_principal(one.tenant_id), store.vector_store_id, file.file_id)
        claims.append(await one.claim(store.vector_store_id, file.file_id))
    texts = (GERMAN.text, ENGLISH.text, FRENCH.text)
    files = [await finished_file(claim, embedded([text]), ()) for claim, text in zip(claims, texts, strict=True)]

    assert await PostgresIngestionStore(database).finish_files(files, UNLIMITED) == [None] * 3

    assert await languages(database, one, store) == (["french", "german"], [["german"], [], ["french"]])
    assert await found(one, store, "Haus") == [0]
    assert await found(one, store, "vessel") == [0]
    assert await found(one, store, "maison") == [0]


async def test_files_of_the_version_before_are_found_and_get_their_language(one: Tenant, database: Database) -> None:
    store, _ = await one.indexed(GERMAN.text, RUSSIAN.text, GERMAN.text, RUSSIAN.text)
    expected = await languages(database, one, store)
    await words_of_version_1(database, one, store)
    assert await found(one, store, "Häuser") == [0, 2]
    assert await found(one, store, "книгами") == [1, 3]
    assert await found(one, store, "Haus") == []

    assert await rebuild_outdated(PostgresKeywordVersions(database), store.vector_store_id) == 1

    assert await languages(database, one, store) == expected == (["german", "russian"], [["german", "russian"]])
    assert await found(one, store, "Haus") == [0, 2]
    assert await found(one, store, "книга") == [1, 3]


async def test_stores_of_two_languages_are_searched_together(one: Tenant) -> None:
    german, _ = await one.indexed(GERMAN.text)
    french, _ = await one.indexed(NOTHING, FRENCH.text)
    stores = [german.vector_store_id, french.vector_store_id]

    keys = await one.ports.index.keyword_search(one.tenant_id, stores, "Haus maisons", 9)

    assert {(key.vector_store_id, key.ordinal) for key in keys} == {(stores[0], 0), (stores[1], 1)}


async def test_each_stem_of_a_word_has_the_share_of_the_word(one: Tenant) -> None:
    store, _ = await one.indexed(GERMAN.text)
    keys = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "Häuser", 9)

    lexemes, [relevant] = await one.ports.index.relevant(one.tenant_id, keys, "Häuser Gebühren zorb")

    assert lexemes == pytest.approx(dict.fromkeys(("haus", "häuser", "gebuhr", "gebühren", "zorb"), 1 / 3))
    assert relevant.frequencies["haus"] == 1
    assert "häuser" not in relevant.frequencies


async def test_the_lexemes_of_a_query_are_bounded_and_those_at_its_ends_are_kept(
    one: Tenant, database: Database
) -> None:
    store = await one.store()
    for sentence in SENTENCES:
        await one.indexed(sentence.text, store=store)
    pasted = " ".join(sentence.text for sentence in SENTENCES)

    async with database.tenant(one.tenant_id) as connection:
        lexemes = await connection.fetch(QUERY_LEXEMES, one.tenant_id, [store.vector_store_id], pasted)

    assert len(lexemes) == MAX_LEXEMES
    assert {"owner", "vessel"} <= {row["lexeme"] for row in lexemes}
    assert await found(one, store, f"zorb {pasted} Haus") != []
