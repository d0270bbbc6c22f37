"""Bounds of what scores can cost."""

import pytest
from values.reranking import max_search_units


@pytest.mark.parametrize(
    ("query_bytes", "sizes", "units"),
    [
        (10, [1], 1),
        (10, [490] * 100, 1),
        (10, [490] * 101, 2),
        # Two pieces each: the query takes ten of the five hundred tokens.
        (10, [491] * 50, 1),
        (10, [491] * 51, 2),
        # A long query takes half of a piece.
        (9_000, [250] * 100, 1),
        (9_000, [251] * 100, 2),
        (1, [1] * 1_000, 10),
    ],
)
def test_a_search_is_of_a_hundred_pieces_with_the_query(query_bytes: int, sizes: list[int], units: int) -> None:
    assert max_search_units("q" * query_bytes, ["d" * size for size in sizes]) == units


def test_bytes_count_and_not_characters() -> None:
    assert max_search_units("q", ["\N{GREEK SMALL LETTER ALPHA}" * 250] * 100) == 2
