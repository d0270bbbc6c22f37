"""Reciprocal rank fusion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrieval.search.rank import reciprocal_rank_fusion

rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), max_size=4)


def test_a_key_s_score_is_the_sum_of_its_reciprocal_ranks() -> None:
    fused = dict(reciprocal_rank_fusion([["a", "b"], ["b", "c"]]))

    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})


def test_a_key_of_both_rankings_beats_the_first_of_one() -> None:
    assert [key for key, _ in reciprocal_rank_fusion([["a", "both"], ["b", "both"]])] == ["both", "a", "b"]


@given(rankings)
def test_every_key_comes_once_and_the_best_first(given_rankings: list[list[int]]) -> None:
    fused = reciprocal_rank_fusion(given_rankings)

    assert sorted(key for key, _ in fused) == sorted({key for ranking in given_rankings for key in ranking})
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(rankings)
def test_the_order_of_one_ranking_alone_is_kept(given_rankings: list[list[int]]) -> None:
    for ranking in given_rankings:
        assert [key for key, _ in reciprocal_rank_fusion([ranking])] == ranking
