"""The figures of all queues as they were read last, for those who ask often and need no newer ones."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from chassis.clock import Clock
from chassis.errors import ArgosyError, Kind, Unavailable

from orchestrator.queues.model import QueueFigures
from orchestrator.queues.ports import QueueStore

MAX_AGE: Final = timedelta(seconds=60)
READ_TIMEOUT_SECONDS: Final = 5.0


class QueueFiguresStale(ArgosyError, public=False):
    """The queues could not be read for too long. An old figure, or none, would scale the workers wrongly."""

    kind, reason = Kind.UNAVAILABLE, "QUEUE_FIGURES_STALE"


class LatestFigures:
    """Keeps the last figures. They are stale `MAX_AGE` after the read that they come from was begun."""

    def __init__(self, store: QueueStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._figures: Sequence[QueueFigures] = ()
        self._read_at: float | None = None
        self._started_at = clock.monotonic()

    @property
    def age_seconds(self) -> float:
        """Seconds since the queues were read, or since the start when they have not been."""
        return self._clock.monotonic() - (self._started_at if self._read_at is None else self._read_at)

    async def refresh(self) -> None:
        """Raises Unavailable."""
        began_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                figures = await self._store.read_figures()
        except TimeoutError:
            raise Unavailable("the queues were not read in time") from None
        self._figures, self._read_at = figures, began_at

    def current(self, within: timedelta = timedelta(0)) -> Sequence[QueueFigures]:
        """Return the figures. Raises QueueFiguresStale when they are stale, or will be `within` a time from now."""
        if self._read_at is None:
            raise QueueFiguresStale("The queues have not been read yet.")
        age = self._clock.monotonic() - self._read_at
        if age + within.total_seconds() > MAX_AGE.total_seconds():
            raise QueueFiguresStale(f"The queues were last read {age:.0f} s ago.")
        return self._figures
