"""Ranking by what the best passages have in common."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import pytest
from chassis.ids import new_id
from retrieval.embeddings.model import Vector
from retrieval.search.feedback import (
    MIN_CANDIDATES,
    Candidate,
    Relevant,
    agree,
    expanded,
    feedback_scores,
    mean_score,
    moved,
)
from retrieval.search.model import SearchQuery
from retrieval.search.search import CANDIDATES, search

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.tenants import Tenant
from services.retrieval.tests.texts import WordTokenCounter


class SwappedEmbedder(FakeEmbedder):
    """Takes some texts for others."""

    def __init__(self, others: Mapping[str, str]) -> None:
        super().__init__()
        self._others = others

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        return await super().embed([self._others.get(text, text) for text in texts])


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


def test_a_rare_term_counts_more_and_scores_are_those_of_ranks() -> None:
    candidates = {
        "common": Candidate(0.5, {"flow": 1}, 10),
        "rare": Candidate(0.5, {"slipstream": 1}, 10),
        "other": Candidate(0.5, {"flow": 1}, 10),
        "none": Candidate(0.5),
    }

    scores = feedback_scores({"flow": 0.5, "slipstream": 0.5}, candidates)

    # By nearness they are equal, and keep their order; by terms the rare one is first.
    expected = {"common": 1 / 61 + 1 / 62, "rare": 1 / 62 + 1 / 61, "other": 2 / 63, "none": 2 / 64}
    assert scores == pytest.approx({key: score * 61 / 2 for key, score in expected.items()})
    assert feedback_scores({}, {"only": Candidate(0.3)}) == {"only": 1.0}
    assert feedback_scores({"a": 1.0}, {1: Candidate(0.1), 2: Candidate(0.9, {"a": 1}, 1)})[2] == 1.0


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


async def test_where_the_searches_disagree_their_ranks_are_fused_and_nothing_is_fed_back(one: Tenant) -> None:
    # The vectors, of other words, are nearest to passages that have none of the query's.
    near = [f"anchor cable {n}" for n in range(CANDIDATES)]
    with_words = [f"propeller of a ship in the harbour of town{n}" for n in range(30)]
    store, _ = await one.indexed(*near, *with_words)
    query = SearchQuery((store.vector_store_id,), "propeller", 50)
    embedder = SwappedEmbedder({"propeller": "anchor cable"})

    found = await search(one.tenant_id, query, index=one.ports.index, embedder=embedder, counter=WordTokenCounter())

    # The first of either search, alternately, and none has moved.
    kinds = ["anchor" in passage.source.text for passage in found[:10]]
    assert kinds.count(True) == kinds.count(False) == 5


def test_rankings_agree_when_both_have_more_than_half_of_the_relevant_among_their_best() -> None:
    one = [f"only one {n}" for n in range(18)]
    other = [f"only other {n}" for n in range(17)]
    shared = [f"shared {n}" for n in range(3)]

    assert agree([*one[:17], *shared], [*shared, *other])
    assert not agree([*one[:17], *shared[:2]], [*shared, *other])
    assert not agree([*one, *shared], [*shared, *other])  # The last of three is in place 21.
    assert not agree([], shared)
