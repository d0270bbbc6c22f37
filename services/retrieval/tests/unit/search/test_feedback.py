"""Ranking by what the best passages have in common."""

from __future__ import annotations

import struct

import pytest
from chassis.ids import new_id
from retrieval.embeddings.model import Vector
from retrieval.search.feedback import MIN_CANDIDATES, Candidate, Relevant, expanded, feedback_scores, mean_score, moved
from retrieval.search.model import SearchQuery
from retrieval.search.search import search

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.tenants import Tenant
from services.retrieval.tests.texts import WordTokenCounter


def a_short_vector(*numbers: float) -> Vector:
    return Vector(struct.pack(f"<{len(numbers)}f", *numbers))


def test_half_of_the_weight_is_the_querys_and_half_goes_to_frequent_terms_of_the_best() -> None:
    relevant = [Relevant(a_short_vector(1), {"wing": 3, "lift": 1}), Relevant(a_short_vector(1), {"lift": 2})]

    weights = expanded({"wing": 0.5, "slip": 0.5}, relevant)

    assert weights == pytest.approx({"wing": 0.25 + 0.5 * 0.75 / 2, "slip": 0.25, "lift": 0.5 * 1.25 / 2})


def test_terms_of_equal_shares_do_not_depend_on_their_order() -> None:
    names = [f"term{number:02}" for number in range(30)]
    forward, backward = dict.fromkeys(names, 1), dict.fromkeys(reversed(names), 1)

    assert expanded({}, [Relevant(a_short_vector(1), forward)]) == expanded({}, [Relevant(a_short_vector(1), backward)])


def test_vectors_move_halfway_to_the_mean_of_the_best() -> None:
    relevant = [Relevant(a_short_vector(0.0, 1.0), {}), Relevant(a_short_vector(0.0, 0.5), {})]

    assert moved(a_short_vector(1.0, 0.0), relevant) == pytest.approx([0.5, 0.375])


def test_a_rare_term_counts_more_and_scores_are_from_0_to_1() -> None:
    candidates = {
        "common": Candidate(0.5, {"flow": 1}, 10),
        "rare": Candidate(0.5, {"slipstream": 1}, 10),
        "other": Candidate(0.5, {"flow": 1}, 10),
        "none": Candidate(0.5),
    }

    scores = feedback_scores({"flow": 0.5, "slipstream": 0.5}, candidates)

    assert scores["rare"] > scores["common"] == scores["other"] > scores["none"] == 0.0
    assert feedback_scores({}, {"only": Candidate(0.3)}) == {"only": 0.0}
    assert max(feedback_scores({"a": 1.0}, {1: Candidate(0.9, {"a": 1}, 1), 2: Candidate(0.1)}).values()) == 1.0


def test_scores_of_different_scales_have_the_same_say_and_what_one_lacks_is_lowest_there() -> None:
    scores = mean_score({"a": 0.9, "b": 0.8, "c": 0.1}, {"b": 30.0, "d": 10.0})

    assert scores == pytest.approx({"b": (0.7 / 0.8 + 1) / 2, "a": 0.5, "c": 0.0, "d": 0.0})
    assert list(scores)[:2] == ["b", "a"]
    assert mean_score({}, {}) == {}


async def test_a_passage_without_the_querys_words_is_found_by_those_of_the_best(one: Tenant) -> None:
    best = [f"propeller wing slipstream lift number{n}" for n in range(5)]
    middle = [f"propeller of a ship in the harbour of town{n}" for n in range(20)]
    store, _ = await one.indexed(*best, *middle, "slipstream lift")

    found = await search(
        one.tenant_id,
        SearchQuery((store.vector_store_id,), "propeller wing", 10),
        index=one.ports.index,
        embedder=FakeEmbedder(),
        counter=WordTokenCounter(),
    )

    assert "slipstream lift" in [passage.source.text for passage in found[:6]]
    assert all(0.0 <= passage.score <= 1.0 for passage in found)
    assert len(best) + len(middle) > MIN_CANDIDATES


async def test_chunks_that_were_deleted_meanwhile_are_left_out(one: Tenant) -> None:
    store, _ = await one.indexed("wing")
    [key] = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "wing", 9)

    assert await one.ports.index.candidates(new_id("ten_"), [key], [0.0] * 384, ["wing"]) == {}
