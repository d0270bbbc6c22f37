"""Reciprocal rank fusion: one ranking from several whose scores are not comparable."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

K = 60

Key = TypeVar("Key", bound=Hashable)


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Key]], k: int = K) -> list[tuple[Key, float]]:
    """Every key of `rankings` (each best first) with the sum of its 1 / (k + rank), best first.

    Keys of equal score keep the order of their first appearance. Cormack, Clarke, Büttcher 2009, with its k of 60.
    """
    scores: dict[Key, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda entry: -entry[1])


def relative(fused: Sequence[tuple[Key, float]], rankings: int, k: int = K) -> dict[Key, float]:
    """The scores as shares of that of a key which is first in all the rankings, best first."""
    return {key: score * (k + 1) / rankings for key, score in fused}
