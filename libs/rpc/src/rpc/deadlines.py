"""When calls run out of time: one timer for many of them, because each call has a deadline and hardly any meets it."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import Final, Protocol

# How late a deadline may ring, in milliseconds, by the seconds that it is away: never early, and at most 5 % late.
FINE: Final = 5
MIDDLE: Final = 50
COARSE: Final = 500


class Timed(Protocol):
    """What has a deadline."""

    def expire(self) -> None:
        """Hear that the time is up."""


class Deadlines:
    """Rings for whatever was `add`ed and not `remove`d, in the loop that was running when it was made."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._buckets: dict[int, set[Timed]] = {}
        self._slots: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0

    def add(self, timed: Timed, due: float, seconds: float) -> int:
        """Ring at `due` by the loop's clock, `seconds` from now; return what `remove` needs."""
        grain = FINE if seconds < 1 else MIDDLE if seconds < 30 else COARSE
        slot = (int(due * 1000) // grain + 1) * grain
        bucket = self._buckets.get(slot)
        if bucket is None:
            bucket = self._buckets[slot] = set()
            heappush(self._slots, slot)
            if self._timer is None or slot < self._rings_at:
                self._set_timer()
        bucket.add(timed)
        return slot

    def remove(self, timed: Timed, slot: int) -> None:
        """Do not ring for it."""
        bucket = self._buckets.get(slot)
        if bucket is not None:
            bucket.discard(timed)

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.close()
        if self._slots:
            self._rings_at = self._slots[0]
            self._timer = self.loop.call_at(self._rings_at / 1000, self._ring)

    def _ring(self) -> None:
        now = self.loop.time() * 1000 + 0.5
        due: list[Timed] = []
        while self._slots and self._slots[0] <= now:
            due += self._buckets.pop(heappop(self._slots))
        self._timer = None
        self._set_timer()
        for timed in due:
            timed.expire()
