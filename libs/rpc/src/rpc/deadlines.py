"""Deadlines of many calls on one timer: every call has one, and hardly any call reaches it."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import Final, Protocol

# Deadlines are rounded up to buckets of so many milliseconds: they never fire early, and at most 5 % late.
FINE_BUCKET_MS: Final = 5  # below one second
MIDDLE_BUCKET_MS: Final = 50  # below 30 seconds
COARSE_BUCKET_MS: Final = 500


class Expiring(Protocol):
    """Something with a deadline."""

    def expire(self) -> None:
        """Called once the deadline has passed."""


class Deadlines:
    """Expires what was `add`ed and not `remove`d, on the event loop that ran when this was made."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._buckets: dict[int, set[Expiring]] = {}
        self._bucket_times: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0

    def add(self, item: Expiring, deadline: float, seconds: float) -> int:
        """Expire `item` at `deadline` (loop time), which is `seconds` from now; returns the bucket for `remove`."""
        width = FINE_BUCKET_MS if seconds < 1 else MIDDLE_BUCKET_MS if seconds < 30 else COARSE_BUCKET_MS
        at = (int(deadline * 1000) // width + 1) * width
        bucket = self._buckets.get(at)
        if bucket is None:
            bucket = self._buckets[at] = set()
            heappush(self._bucket_times, at)
            if self._timer is None or at < self._timer_at:
                self._set_timer()
        bucket.add(item)
        return at

    def remove(self, item: Expiring, at: int) -> None:
        """Do not expire `item`, which was added to the bucket `at`."""
        bucket = self._buckets.get(at)
        if bucket is not None:
            bucket.discard(item)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.close()
        if self._bucket_times:
            self._timer_at = self._bucket_times[0]
            self._timer = self.loop.call_at(self._timer_at / 1000, self._fire)

    def _fire(self) -> None:
        now = self.loop.time() * 1000 + 0.5
        expired: list[Expiring] = []
        while self._bucket_times and self._bucket_times[0] <= now:
            expired += self._buckets.pop(heappop(self._bucket_times))
        self._timer = None
        self._set_timer()
        for item in expired:
            item.expire()
