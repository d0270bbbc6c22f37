"""Tests of filters in a SearchIndex: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

from typing import Any

import pytest
from chassis.testing import a_principal
from values.attributes import Attributes, to_filter

from services.retrieval.tests.fake_filters import fits
from services.retrieval.tests.tenants import Tenant
from services.retrieval.tests.texts import a_vector

LARGE = 2**53
FILES: dict[str, Attributes] = {
    "nothing": {},
    "ada 2023": {"author": "Ada", "year": 2023, "public": True},
    "ada 2024": {"author": "Ada", "year": 2024, "public": False},
    "ben 2024.5": {"author": "Ben", "year": 2024.5},
    "text for a year": {"author": "Cyd", "year": "2024"},
    "one": {"n": 1},
    "one as a float": {"n": 1.0},
    "true": {"n": True},
    "text of true": {"n": "true"},
    "large": {"n": LARGE},
    "large and one": {"n": LARGE + 1},
    "negative": {"n": -3},
    "tiny": {"n": 1e-300},
    "empty text": {"n": ""},
    "umlaut": {"n": "Ü"},
    "quote": {"a' OR '1'='1": "x' --", "n": '{"a": 1}'},
    "percent": {"n": "50%_$1"},
}

Json = dict[str, Any]


def compare(key: str, kind: str, value: object) -> Json:
    return {"type": kind, "key": key, "value": value}


def both(*filters: Json) -> Json:
    return {"type": "and", "filters": list(filters)}


def either(*filters: Json) -> Json:
    return {"type": "or", "filters": list(filters)}


# What others got wrong, with the names of the files that fit.
ROWS: list[tuple[str, Json, set[str]]] = [
    ("equal text", compare("author", "eq", "Ada"), {"ada 2023", "ada 2024"}),
    ("case matters", compare("author", "eq", "ada"), set()),
    ("not equal holds without the attribute", compare("author", "ne", "Ada"), FILES.keys() - {"ada 2023", "ada 2024"}),
    (
        "not in holds without the attribute",
        compare("author", "nin", ["Ada", "Ben"]),
        FILES.keys() - {"ada 2023", "ada 2024", "ben 2024.5"},
    ),
    ("a number is not its text", compare("year", "eq", 2024), {"ada 2024"}),
    ("a text is not its number", compare("year", "eq", "2024"), {"text for a year"}),
    ("whole numbers equal floats", compare("n", "eq", 1.0), {"one", "one as a float"}),
    ("true is not one", compare("n", "eq", True), {"true"}),
    ("one is not true", compare("n", "eq", 1), {"one", "one as a float"}),
    ("true is not its text", compare("n", "eq", "true"), {"text of true"}),
    ("not true", compare("public", "ne", True), FILES.keys() - {"ada 2023"}),
    ("large numbers are exact", compare("n", "eq", LARGE + 1), {"large and one"}),
    ("large numbers are exact in lists", compare("n", "in", [LARGE]), {"large"}),
    ("large numbers have an order", compare("n", "gt", LARGE), {"large and one"}),
    ("numbers in lists", compare("year", "in", [2023, 2024.5]), {"ada 2023", "ben 2024.5"}),
    ("mixed lists", compare("n", "in", [1, "true", True]), {"one", "one as a float", "true", "text of true"}),
    ("in nothing", compare("author", "in", []), set()),
    ("not in nothing", compare("author", "nin", []), set(FILES)),
    ("numbers by size", compare("year", "gt", 2023), {"ada 2024", "ben 2024.5"}),
    ("at least", compare("year", "gte", 2024), {"ada 2024", "ben 2024.5"}),
    ("less", compare("year", "lt", 2024), {"ada 2023"}),
    ("at most", compare("year", "lte", 2024.5), {"ada 2023", "ada 2024", "ben 2024.5"}),
    (
        "not by the first digit",
        compare("n", "gt", -10),
        {"one", "one as a float", "large", "large and one", "negative", "tiny"},
    ),
    ("texts by code point", compare("n", "gt", "t"), {"text of true", "umlaut", "quote"}),
    ("texts and numbers have no order", compare("year", "gte", "2"), {"text for a year"}),
    ("an empty text", compare("n", "eq", ""), {"empty text"}),
    ("umlauts", compare("n", "eq", "Ü"), {"umlaut"}),
    ("no such key", compare("nothing like it", "eq", 1), set()),
    ("a key that is SQL", compare("a' OR '1'='1", "eq", "x' --"), {"quote"}),
    ("a value that is SQL", compare("author", "eq", "Ada' OR '1'='1"), set()),
    ("a value that is JSON", compare("n", "eq", '{"a": 1}'), {"quote"}),
    ("a value that is a pattern", compare("n", "eq", "50%_$1"), {"percent"}),
    ("a value with a pattern's signs", compare("author", "eq", "A%"), set()),
    ("a key that is a path", compare("author,year", "eq", 1), set()),
    ("and", both(compare("author", "eq", "Ada"), compare("year", "gte", 2024)), {"ada 2024"}),
    ("or", either(compare("n", "eq", ""), compare("author", "eq", "Cyd")), {"empty text", "text for a year"}),
    (
        "and of or",
        both(
            either(compare("author", "eq", "Ada"), compare("author", "eq", "Ben")),
            either(compare("year", "lt", 2024), compare("year", "gt", 2024)),
        ),
        {"ada 2023", "ben 2024.5"},
    ),
    (
        "or of and",
        either(both(compare("author", "eq", "Ada"), compare("public", "eq", True)), compare("n", "eq", LARGE)),
        {"ada 2023", "large"},
    ),
    (
        "a negation of what is not there, in an or",
        both(either(compare("author", "ne", "Ada"), compare("n", "eq", 1)), compare("n", "in", [1, ""])),
        {"one", "one as a float", "empty text"},
    ),
]


def nested(levels: int) -> Json:
    filters = compare("author", "eq", "Ada")
    for _ in range(levels):
        filters = both(filters, compare("year", "gt", 2023))
    return filters


class FiltersContract:
    @pytest.fixture
    async def filled(self, one: Tenant) -> str:
        """A store whose files have their name, and what they have in common, as their text."""
        store, _ = await one.indexed("harbour nothing", attributes=FILES["nothing"])
        for name, attributes in list(FILES.items())[1:]:
            await one.indexed(f"harbour {name}", store=store, attributes=attributes)
        return store.vector_store_id

    async def test_both_searches_find_the_files_that_fit(self, one: Tenant, filled: str) -> None:
        index, tenant = one.ports.index, one.tenant_id
        wrong = []
        for name, raw, expected in ROWS:
            filters = to_filter(raw)
            assert {file for file, attributes in FILES.items() if fits(filters, attributes)} == expected, name
            near = await index.vector_search(tenant, [filled], a_vector("harbour"), 100, filters)
            by_words = await index.keyword_search(tenant, [filled], "harbour", 100, filters)
            for found in (near, by_words):
                texts = await index.chunk_texts(tenant, found)
                names = {text.text.removeprefix("harbour ") for text in texts.values()}
                if names != expected:
                    wrong.append((name, names ^ expected))
            if (await index.contents(tenant, [filled], filters)).chunks != len(expected):
                wrong.append((name, {"count"}))
        assert wrong == []

    async def test_the_texts_that_are_found_have_their_attributes(self, one: Tenant, filled: str) -> None:
        found = await one.ports.index.keyword_search(
            one.tenant_id, [filled], "harbour", 9, to_filter(compare("author", "eq", "Ben"))
        )

        [text] = (await one.ports.index.chunk_texts(one.tenant_id, found)).values()
        assert text.attributes == {"author": "Ben", "year": 2024.5}

    async def test_a_filtered_search_is_that_of_a_store_with_these_files_alone(self, one: Tenant) -> None:
        texts = ["harbour quay", "harbour harbour mooring", "quay quay bollard", "harbour lighthouse quay fender"]
        alone, _ = await one.indexed(texts[0])
        mixed, _ = await one.indexed(texts[0], attributes={"of": "us"})
        for text in texts[1:]:
            await one.indexed(text, store=alone)
            await one.indexed(text, store=mixed, attributes={"of": "us"})
        for n in range(20):
            await one.indexed(f"harbour of theirs {n} quay", store=mixed, attributes={"of": "them"})
        ours, index = to_filter(compare("of", "eq", "us")), one.ports.index

        expected = await index.keyword_search(one.tenant_id, [alone.vector_store_id], "quay harbour", 9)
        found = await index.keyword_search(one.tenant_id, [mixed.vector_store_id], "quay harbour", 9, ours)

        assert list(found.values()) == pytest.approx(list(expected.values()))

    async def test_a_filter_of_the_deepest_groups_is_answered(self, one: Tenant, filled: str) -> None:
        found = await one.ports.index.keyword_search(one.tenant_id, [filled], "harbour", 9, to_filter(nested(8)))

        assert len(found) == 1

    async def test_an_updated_file_is_found_by_its_new_attributes_alone(self, one: Tenant) -> None:
        store, file = await one.indexed("harbour", attributes={"year": 2023})
        stores, index = [store.vector_store_id], one.ports.index

        await one.ports.stores.update_attachment(one.tenant_id, store.vector_store_id, file.file_id, {"year": 2024})

        old, new = (to_filter(compare("year", "eq", year)) for year in (2023, 2024))
        assert await index.keyword_search(one.tenant_id, stores, "harbour", 9, old) == {}
        assert await index.vector_search(one.tenant_id, stores, a_vector("harbour"), 9, old) == {}
        assert len(await index.keyword_search(one.tenant_id, stores, "harbour", 9, new)) == 1

    async def test_files_that_are_detached_or_not_indexed_yet_are_not_found(self, one: Tenant) -> None:
        store, file = await one.indexed("harbour one", attributes={"year": 2024})
        waiting = await one.file()
        stores, index = [store.vector_store_id], one.ports.index
        await one.ports.stores.attach(
            a_principal(one.tenant_id), store.vector_store_id, waiting.file_id, attributes={"year": 2024}
        )
        ours = to_filter(compare("year", "eq", 2024))
        assert len(await index.vector_search(one.tenant_id, stores, a_vector("harbour"), 9, ours)) == 1

        await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)

        assert await index.vector_search(one.tenant_id, stores, a_vector("harbour"), 9, ours) == {}
        assert await index.keyword_search(one.tenant_id, stores, "harbour", 9, ours) == {}

    async def test_several_stores_are_filtered_together_and_others_are_not_found(
        self, one: Tenant, other: Tenant
    ) -> None:
        first, _ = await one.indexed("harbour one", attributes={"year": 2024})
        second, _ = await one.indexed("harbour two", attributes={"year": 2024})
        await one.indexed("harbour three", store=second, attributes={"year": 2023})
        theirs, _ = await other.indexed("harbour four", attributes={"year": 2024})
        stores = [first.vector_store_id, second.vector_store_id, theirs.vector_store_id]
        ours, index = to_filter(compare("year", "eq", 2024)), one.ports.index

        for found in (
            await index.vector_search(one.tenant_id, stores, a_vector("harbour"), 9, ours),
            await index.keyword_search(one.tenant_id, stores, "harbour", 9, ours),
        ):
            assert {key.vector_store_id for key in found} == set(stores[:2])
            assert len(found) == 2
