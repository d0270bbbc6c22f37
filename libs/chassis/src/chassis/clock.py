"""The clock as a port, so that tests can set the time."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the wall-clock time in UTC, timezone-aware."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, for durations; their origin is arbitrary."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
