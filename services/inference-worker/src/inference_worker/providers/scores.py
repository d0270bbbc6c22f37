"""Scores from 0 to 1."""

import math
from collections.abc import Sequence


def to_score(logit: float) -> float:
    """The logistic function: from 0 to 1, in the order of the logits."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


def to_scores(numbers: Sequence[float]) -> list[float]:
    """Return numbers from 0 to 1 as they are. When one is not, all are logits.

    A model's numbers are never stretched between the best and the worst of one answer: then the best of a bad lot would
    have the score of an exact hit.
    """
    if all(0 <= number <= 1 for number in numbers):
        return list(numbers)
    return [to_score(number) for number in numbers]
