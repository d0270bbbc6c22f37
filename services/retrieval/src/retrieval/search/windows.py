"""The whole of a long query for a model that reads only the beginning of a text.

A long query is a message: what it asks for stands at its end, or at its beginning, with pasted text in between.
"""

import struct
from collections.abc import Hashable, Sequence
from typing import TypeVar

from retrieval.chunking.splitter import Splitter
from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Vector
from retrieval.parsing.model import Block

# MiniLM reads 256 tokens, two of which mark the ends.
READ_TOKENS = 254
# A question or two. In a larger window the text around a question would outweigh it.
WINDOW_TOKENS = 64
OVERLAP_TOKENS = 12

Key = TypeVar("Key", bound=Hashable)


def split_query(query: str, counter: TokenCounter) -> list[str]:
    """The windows of a query, in order; the query itself when the model reads all of it."""
    # A token has a character at least, so short queries need not be counted.
    if len(query) <= READ_TOKENS or counter.count([query])[0] <= READ_TOKENS:
        return [query]
    splitter = Splitter(counter, WINDOW_TOKENS, OVERLAP_TOKENS)
    return [chunk.text for chunk in [*splitter.feed(Block(0, query)), *splitter.finish()]] or [query]


def search_vectors(vectors: Sequence[Vector]) -> list[Vector]:
    """What is searched for: the end, the beginning, and the mean of all windows, which costs three searches at most."""
    if len(vectors) == 1:
        return [vectors[0]]
    ends = [vectors[-1], vectors[0]]
    return ends if len(vectors) == 2 else [*ends, _mean(vectors)]


def best_of(rankings: Sequence[Sequence[Key]]) -> list[Key]:
    """One ranking by the best place that each key has in any of them; the first ranking's are first among equals.

    Not a sum over the rankings: three vector searches would outvote the one by keyword.
    """
    if len(rankings) == 1:
        return list(rankings[0])
    places: dict[Key, tuple[int, int]] = {}
    for number, ranking in enumerate(rankings):
        for place, key in enumerate(ranking):
            places[key] = min(places.get(key, (place, number)), (place, number))
    return sorted(places, key=places.__getitem__)


def _mean(vectors: Sequence[Vector]) -> Vector:
    numbers = [struct.unpack(f"<{len(vector) // 4}f", vector) for vector in vectors]
    mean = [sum(column) / len(vectors) for column in zip(*numbers, strict=True)]
    return Vector(struct.pack(f"<{len(mean)}f", *mean))
