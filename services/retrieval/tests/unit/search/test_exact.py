"""Exact hits: phrases and codes of a query in a passage."""

from __future__ import annotations

import pytest
from retrieval.search.exact import to_wanted


@pytest.mark.parametrize(
    ("query", "text", "exactness"),
    [
        ("QX-7041", "error qx-7041.", 0.9),
        ("QX-7041", "QX‑7041 in full", 0.9),
        ("ＱＸ-7041", "QX-7041", 0.9),
        ("QX-704", "QX-7041", 0.0),
        ("QX-7041 or QX-7042", "QX-7042 only", 0.45),
        ("power supply", "a POWER\nsupply unit", 1.0),
        ("power supply", "supply of power", 0.0),
        ("power supply?", "the power supply", 1.0),
        ('what is "left aside" here now by them', "it was left aside", 1.0),
        ("café au lait", "café au lait", 1.0),
        ("請求書 番号", "この請求書 番号です", 1.0),
        ("in 2026", "made in 2026", 1.0),
        ("what happened in the year 2026 at all", "in 2026", 0.0),
        ("invoice 884213 please send it to me now", "No. 884213", 0.9),
    ],
)
def test_a_passage_is_as_exact_as_its_share_of_the_query(query: str, text: str, exactness: float) -> None:
    assert to_wanted(query).exactness(text) == pytest.approx(exactness)


def test_a_question_has_neither_phrase_nor_code() -> None:
    assert not to_wanted("how long does the warranty of a new vessel last")
    assert not to_wanted("warranty")
