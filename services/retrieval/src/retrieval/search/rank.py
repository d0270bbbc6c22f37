"""Reciprocal rank fusion: one ranking out of several whose scores cannot be compared."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

K = 60

Key = TypeVar("Key", bound=Hashable)


def fuse(rankings: Sequence[Sequence[Key]], k: int = K) -> list[tuple[Key, float]]:
    """Every key of `rankings` (each best first) with the sum of its 1 / (k + rank), best first.

    Of equals, the one that came up earlier is first. Cormack, Clarke, Büttcher 2009; its k of 60.
    """
    scores: dict[Key, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda entry: -entry[1])
