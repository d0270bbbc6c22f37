"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Waits with full jitter: anything between nothing and a bound that doubles from `first` to `longest` seconds.

    Full jitter, so that the many who lost the same peer do not come back to it in step.
    """

    def __init__(
        self, first: float = 0.1, longest: float = 30.0, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first = first
        self._longest = longest
        self._uniform = uniform
        self.failures = 0

    def next(self) -> float:
        """Count one more failure and return the seconds to wait for it."""
        bound = min(self._longest, self._first * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return self._uniform(0.0, bound)

    def reset(self) -> None:
        """Forget the failures."""
        self.failures = 0
