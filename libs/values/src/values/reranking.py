"""What the scores of documents for a query can cost."""

from collections.abc import Sequence
from typing import Final

MIN_MODEL_TOKENS: Final = 128
"""The least that a reranker of ours reads at once: a query, which has half of it at most, and a document."""

MIN_WINDOW_TOKENS: Final = 48
"""What each further window of a document has at least that no other has, for such a model."""

SPECIAL_TOKENS_PER_PAIR: Final = 8
"""The most tokens that a model adds around a query and a document."""

TOKENS_PER_PIECE: Final = 500
"""Cohere counts a longer document, with the query, as several pieces."""

PIECES_PER_SEARCH_UNIT: Final = 100


def rerank_bytes(query: str, documents: Sequence[str]) -> int:
    """Return the size of all texts together."""
    return len(query.encode()) + sum(len(document.encode()) for document in documents)


def max_rerank_tokens(query: str, documents: Sequence[str]) -> int:
    """Return an upper bound of the tokens that are billed.

    A text has at most one token per byte. The query is read with each window of a document, and windows overlap by less
    than a half.
    """
    around = len(query.encode()) + SPECIAL_TOKENS_PER_PAIR
    sizes = [len(document.encode()) for document in documents]
    return sum(2 * size + (1 + -(-size // MIN_WINDOW_TOKENS)) * around for size in sizes)


def max_search_units(query: str, documents: Sequence[str]) -> int:
    """Return an upper bound of the searches that are billed.

    A text has at most one token per byte, and the query takes half of a piece at most.
    """
    left = TOKENS_PER_PIECE - min(len(query.encode()), TOKENS_PER_PIECE // 2)
    pieces = sum(max(1, -(-len(document.encode()) // left)) for document in documents)
    return -(-pieces // PIECES_PER_SEARCH_UNIT)
