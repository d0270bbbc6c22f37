"""Measures of rankings, against values computed by hand."""

from __future__ import annotations

import pytest

from services.retrieval.tests.quality.measures import ndcg, recall


def test_ndcg_is_1_for_the_best_order_and_less_for_a_later_place() -> None:
    grades = {"a": 2, "b": 1}

    assert ndcg(["a", "b", "c"], grades) == 1.0
    assert ndcg(["b", "a"], grades) == pytest.approx((1 + 2 / 1.5849625) / (2 + 1 / 1.5849625))
    assert ndcg(["x", "a"], grades) == pytest.approx((2 / 1.5849625) / (2 + 1 / 1.5849625))
    assert ndcg([], grades) == ndcg(["x"] * 10 + ["a"], grades) == 0.0


def test_more_relevant_documents_than_places_can_be_ranked_perfectly() -> None:
    names = [str(number) for number in range(20)]

    assert ndcg(names, dict.fromkeys(names, 1)) == 1.0
    assert recall(names, dict.fromkeys(names, 1)) == 0.5


def test_recall_counts_what_is_among_the_first() -> None:
    assert recall(["a", "x", "x", "b"], {"a": 1, "b": 1, "c": 1}) == pytest.approx(2 / 3)
