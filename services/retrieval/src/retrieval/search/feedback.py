"""Ranks what was found once more, by what its best passages have in common (pseudo relevance feedback).

The best few passages of a first ranking are taken for relevant. The query's vector moves halfway to theirs (Rocchio
1971), and their most frequent terms get half of the weight of the query's (RM3, Abdul-Jaleel et al. 2004), with the
numbers that are usual there. All of it is done among the passages that were found, so it costs no second search.

It is done where the search by vector and the one by keyword agree on some of the best. Where they do not, the best few
of either are a guess, and what they have in common leads away from the query.
"""

import math
import struct
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from retrieval.embeddings.model import Vector
from retrieval.search.rank import reciprocal_rank_fusion, relative

RELEVANT = 5
TERMS = 10
WEIGHT = 0.5
# Of fewer passages the best ones are a large part, and few of them answer the query.
MIN_CANDIDATES = 4 * RELEVANT
MAX_CANDIDATES = 100
# As in the keyword search.
_K1, _B = 1.2, 0.75

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Relevant:
    """A passage that is taken for relevant: its vector, and how often it has each of its lexemes."""

    vector: Vector
    frequencies: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage to rank. `nearness` is the inner product with the moved vector.

    `frequencies` has those of the wanted lexemes that it has, and `length` counts all of its lexemes.
    """

    nearness: float
    frequencies: Mapping[str, int] = field(default_factory=dict)
    length: int = 0


def agree(one: Iterable[Key], other: Iterable[Key]) -> bool:
    """Whether two rankings, each best first, have in common more than half as many as are taken for relevant."""
    return 2 * len({*islice(one, MIN_CANDIDATES)} & {*islice(other, MIN_CANDIDATES)}) > RELEVANT


def expanded(query: Mapping[str, float], relevant: Sequence[Relevant]) -> dict[str, float]:
    """The lexemes to look for, with their weights; nothing when neither has one.

    `query` has the shares of its lexemes. Where it is in one language their sum is 1, and so is that of the weights.
    """
    shares: defaultdict[str, float] = defaultdict(float)
    for passage in relevant:
        length = sum(passage.frequencies.values())
        for lexeme, frequency in passage.frequencies.items():
            shares[lexeme] += frequency / length
    # Sorted first, so that terms of equal shares do not depend on the order in which they came.
    best = sorted(sorted(shares), key=lambda lexeme: -shares[lexeme])[:TERMS]
    total = sum(shares[lexeme] for lexeme in best)
    weights = {lexeme: (1 - WEIGHT) * share for lexeme, share in query.items()}
    for lexeme in best:
        weights[lexeme] = weights.get(lexeme, 0.0) + WEIGHT * shares[lexeme] / total
    return weights


def moved(vector: Vector, relevant: Sequence[Relevant]) -> list[float]:
    """The vector that was searched for, moved halfway to the mean of the relevant ones. Its length is at most 1."""
    columns = zip(*(_floats(passage.vector) for passage in relevant), strict=True)
    mean = [sum(column) / len(relevant) for column in columns]
    return [(1 - WEIGHT) * own + WEIGHT * theirs for own, theirs in zip(_floats(vector), mean, strict=True)]


def feedback_scores(weights: Mapping[str, float], candidates: Mapping[Key, Candidate]) -> dict[Key, float]:
    """A score from 0 to 1 for each candidate: the fusion of its ranks by nearness and by terms, best first.

    Candidates that are equal in one keep the order in which they are given.
    """
    by_nearness = sorted(candidates, key=lambda key: -candidates[key].nearness)
    terms = _bm25(weights, candidates)
    by_terms = sorted(candidates, key=lambda key: -terms[key])
    return relative(reciprocal_rank_fusion([by_nearness, by_terms]), 2)


def mean_score(one: Mapping[Key, float], other: Mapping[Key, float]) -> dict[Key, float]:
    """The mean of both scores, each from 0 to 1, best first. What has no score in one has the lowest there."""
    one, other = _normalized(one), _normalized(other)
    scores = {key: (one.get(key, 0.0) + other.get(key, 0.0)) / 2 for key in [*one, *other]}
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def _bm25(weights: Mapping[str, float], candidates: Mapping[Key, Candidate]) -> dict[Key, float]:
    """BM25 with the candidates as the collection."""
    frequency = Counter(lexeme for candidate in candidates.values() for lexeme in candidate.frequencies)
    size = len(candidates)
    idf = {lexeme: math.log(1 + (size - known + 0.5) / (known + 0.5)) for lexeme, known in frequency.items()}
    lengths = [candidate.length for candidate in candidates.values() if candidate.length]
    average = sum(lengths) / max(len(lengths), 1)
    scores: dict[Key, float] = {}
    for key, candidate in candidates.items():
        damping = _K1 * (1 - _B + _B * candidate.length / average) if average else _K1
        scores[key] = sum(
            weights.get(lexeme, 0.0) * idf[lexeme] * times * (_K1 + 1) / (times + damping)
            for lexeme, times in candidate.frequencies.items()
        )
    return scores


def _normalized(scores: Mapping[Key, float]) -> dict[Key, float]:
    """From 0 for the lowest to 1 for the highest; all 0 when they are equal, as they tell nothing then."""
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    if high <= low:
        return dict.fromkeys(scores, 0.0)
    return {key: (score - low) / (high - low) for key, score in scores.items()}


def _floats(vector: Vector) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)
