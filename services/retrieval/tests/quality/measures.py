"""How good a ranking of documents is, as trec_eval measures it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

DEPTH = 10


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], depth: int = DEPTH) -> float:
    """The gain of the first `depth` documents as a share of the best possible one; a grade counts less further down."""
    best = sorted(grades.values(), reverse=True)
    return _gain([grades.get(document, 0) for document in ranking[:depth]]) / _gain(best[:depth])


def recall(ranking: Sequence[str], grades: Mapping[str, int], depth: int = DEPTH) -> float:
    """The share of the relevant documents that are among the first `depth`."""
    return len(grades.keys() & set(ranking[:depth])) / len(grades)


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades, start=1))
