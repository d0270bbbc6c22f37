"""Tests of SearchIndex: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from retrieval.embeddings.model import vector_to_floats
from retrieval.search.model import ChunkKey

from services.retrieval.tests.tenants import Tenant
from services.retrieval.tests.texts import a_vector, bm25, cosine


class SearchIndexContract:
    async def test_vector_search_ranks_the_chunks_of_all_given_stores(self, one: Tenant) -> None:
        first, _ = await one.indexed("red apples", "green pears")
        second, _ = await one.indexed("red apples and pears")
        third, _ = await one.indexed("red apples")
        asked = [first.vector_store_id, second.vector_store_id]

        keys = await one.ports.index.vector_search(one.tenant_id, asked, a_vector("red apples"), 2)

        texts = await one.ports.index.chunk_texts(one.tenant_id, keys)
        assert [texts[key].text for key in keys] == ["red apples", "red apples and pears"]
        assert third.vector_store_id not in {key.vector_store_id for key in keys}

    async def test_chunk_texts_have_their_source(self, one: Tenant) -> None:
        store, file = await one.indexed("first page", "second page")
        [key] = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "second", 9)

        text = (await one.ports.index.chunk_texts(one.tenant_id, [key]))[key]

        assert (text.file_id, text.filename, text.page, text.text) == (file.file_id, "a.txt", 2, "second page")
        assert (
            await one.ports.index.chunk_texts(one.tenant_id, [ChunkKey(store.vector_store_id, key.attachment, 7)]) == {}
        )

    @pytest.mark.parametrize(
        "query",
        [
            "What's harbour's fee?",
            "harbour & (dues | !fees) <-> :*",
            "harbour\\ 'dues",
            '"harbour" -dues',
            "harbour%_",
        ],
    )
    async def test_signs_of_a_query_have_no_meaning(self, one: Tenant, query: str) -> None:
        store, _ = await one.indexed("harbour dues and fees", "nothing of the kind")

        keys = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], query, 9)

        assert [key.ordinal for key in keys] == [0]

    async def test_rare_keywords_score_higher_and_long_chunks_lower(self, one: Tenant) -> None:
        store, _ = await one.indexed(
            "harbour harbour harbour",
            "harbour zephyr",
            "harbour lighthouse zephyr quay mooring bollard fender hawser",
            "harbour",
        )

        keys = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "zephyr harbour", 9)

        assert [key.ordinal for key in keys] == [1, 2, 0, 3]

    async def test_the_words_at_both_ends_of_a_pasted_page_are_searched_for(self, one: Tenant) -> None:
        store, _ = await one.indexed("harbour lighthouse", "zephyr mooring", "nothing of the kind")
        pasted = " ".join(f"qx{number}zz" for number in range(400))

        for query, ordinal in ((f"lighthouse {pasted} mooring", 1), (f"lighthouse {pasted}", 0)):
            keys = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], query, 9)

            assert ordinal in [key.ordinal for key in keys]

    async def test_bm25_ranks_as_the_formula_does(self, one: Tenant) -> None:
        vocabulary = ["zorb", "quix", "vemt", "plok", "drux", "fnar", "glib", "skob"]
        dice = random.Random(7)
        texts = [" ".join(dice.choices(vocabulary, k=dice.randint(2, 30))) for _ in range(60)]
        first, _ = await one.indexed(*texts[:40])
        second, _ = await one.indexed(*texts[40:])
        stores = [first.vector_store_id, second.vector_store_id]

        for query in ("zorb", "quix plok", "glib skob drux vemt", "unheard"):
            keys = await one.ports.index.keyword_search(one.tenant_id, stores, query, 100)
            everything = {ChunkKey("", n, 0): Counter(text.split()) for n, text in enumerate(texts)}
            expected = bm25(set(query.split()), everything)
            found = await one.ports.index.chunk_texts(one.tenant_id, keys)
            # Equal scores may come in any order, so compare the scores.
            by_text = {texts[key.attachment]: score for key, score in expected.items()}
            scores = [by_text[found[key].text] for key in keys]
            assert scores == pytest.approx(sorted(expected.values(), reverse=True))

    async def test_a_query_without_keywords_finds_nothing(self, one: Tenant) -> None:
        store, _ = await one.indexed("some text")

        assert await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "?!", 9) == {}

    async def test_the_best_chunks_come_with_the_lexemes_of_the_query(self, one: Tenant) -> None:
        store, _ = await one.indexed("zorb zorb quix", "plok")
        stores = [store.vector_store_id]
        keys = await one.ports.index.keyword_search(one.tenant_id, stores, "zorb plok", 9)

        lexemes, relevant = await one.ports.index.relevant(one.tenant_id, keys, "quix drux quix")

        assert lexemes == {"drux": 0.5, "quix": 0.5}
        by_terms = {tuple(sorted(passage.frequencies.items())): passage.vector for passage in relevant}
        assert by_terms.keys() == {(("quix", 1), ("zorb", 2)), (("plok", 1),)}
        assert cosine(by_terms[("plok", 1),], a_vector("plok")) == pytest.approx(1.0, abs=1e-3)

    async def test_candidates_have_their_frequencies_and_their_nearness_to_the_vector(self, one: Tenant) -> None:
        store, _ = await one.indexed("zorb zorb quix", "plok", "drux")
        keys = [
            *await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "zorb plok", 9),
            ChunkKey(store.vector_store_id, 10**9, 0),
        ]
        vector = vector_to_floats(a_vector("zorb"))

        found = await one.ports.index.candidates(one.tenant_id, keys, vector, ["zorb", "quix"])

        assert {key.ordinal: (dict(item.frequencies), item.length) for key, item in found.items()} == {
            0: ({"zorb": 2, "quix": 1}, 3),
            1: ({}, 0),
        }
        assert {key.ordinal: item.nearness for key, item in found.items()} == pytest.approx(
            {0: 2 / 5**0.5, 1: 0.0}, abs=1e-3
        )
