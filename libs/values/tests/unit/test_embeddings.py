"""Vectors in pieces."""

import pytest
from values.embeddings import PIECE_BYTES, split_vectors


@pytest.mark.parametrize(
    ("vectors", "size", "pieces"),
    [
        (0, 4, [0]),
        (1, 4, [1]),
        (1000, 4, [1000]),
        (5, PIECE_BYTES // 2, [2, 2, 1]),
        (2, PIECE_BYTES, [1, 1]),
        (2, PIECE_BYTES * 3, [1, 1]),
        (2048, 4 * 4096, [16] * 128),
        (2, 0, [2]),
    ],
)
def test_pieces_have_the_vectors_in_order_and_a_bounded_size(vectors: int, size: int, pieces: list[int]) -> None:
    given = [bytes(size)] * vectors

    split = list(split_vectors(given))

    assert list(map(len, split)) == pieces
    assert [vector for piece in split for vector in piece] == given
