"""Exponential backoff with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Random waits between zero and a bound that doubles from `min_seconds` to `max_seconds`.

    Full jitter keeps many clients that lost the same peer from reconnecting at the same moment.
    """

    def __init__(
        self,
        min_seconds: float = 0.1,
        max_seconds: float = 30.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._uniform = uniform
        self.failures = 0

    def next(self) -> float:
        """Count one more failure and return the seconds to wait."""
        bound = min(self._max_seconds, self._min_seconds * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return self._uniform(0.0, bound)

    def reset(self) -> None:
        self.failures = 0
