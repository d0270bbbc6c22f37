"""Time as a collaborator, so that tests can give it."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the time is."""

    def now(self) -> datetime:
        """Answer the wall-clock time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Answer seconds since some moment; never goes back, so differences are durations."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Answer the wall-clock time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Answer seconds since some moment; never goes back."""
        return time.monotonic()
