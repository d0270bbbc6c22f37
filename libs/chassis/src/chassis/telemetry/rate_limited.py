"""Log lines for what can happen thousands of times per second."""

from __future__ import annotations

from time import monotonic
from typing import Any

from chassis.telemetry.logs import Logger


class RateLimitedLog:
    """Logs at most one line per key and interval; the next line says how many were left out as `suppressed`.

    Keys must come from a small fixed set: one time and one count are kept for each.
    """

    def __init__(self, log: Logger, interval_seconds: float = 10.0) -> None:
        self._log = log
        self._interval_seconds = interval_seconds
        self._next: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def warning(self, event: str, /, *, key: str, **fields: Any) -> None:
        """Log a warning unless one of this key was logged within the interval."""
        now = monotonic()
        if now < self._next.get(key, 0.0):
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return
        self._next[key] = now + self._interval_seconds
        self._log.warning(event, suppressed=self._suppressed.pop(key, 0), **fields)
