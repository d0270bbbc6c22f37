"""Requests for the same answer at the same time, in one process: one of them makes it, the others wait for it."""

import asyncio
from dataclasses import dataclass
from enum import Enum

from values.usage import CacheOutcome

from orchestrator.response_cache.model import CachedAnswer, CacheKey


@dataclass(slots=True)
class SharedAnswer:
    """An answer for those who wait, and its age when it was found; 0 for one that was just made."""

    answer: CachedAnswer
    age_ms: int = 0
    outcome: CacheOutcome = CacheOutcome.HIT
    check: asyncio.Task[bool] | None = None
    """Finds out whether it was purged before it was there: once for all who waited."""


class Unshared(Enum):
    """Why those who wait get no answer."""

    NOT_MADE = "not made"
    """The first of them makes it, and the others wait again."""
    NOT_KEPT = "not kept"
    """It was made, and is for its own request only: each of them makes its own."""


class Flights:
    """The answers that this process makes now, by key. Those who wait for one get it, or why not."""

    def __init__(self) -> None:
        # Those who wait, by answer; without a list until one does: most answers are made for one request.
        self._flights: dict[CacheKey, list[asyncio.Future[SharedAnswer | Unshared]] | None] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: CacheKey) -> bool:
        return key in self._flights

    def begin(self, key: CacheKey) -> None:
        """Note that the caller makes this answer. None is being made."""
        self._flights[key] = None

    async def wait(self, key: CacheKey, timeout_seconds: float) -> SharedAnswer | Unshared:
        """Wait for the end of the answer that is being made.

        Raises `TimeoutError`. A caller that is cancelled does not stop the others from waiting.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[SharedAnswer | Unshared] = loop.create_future()
        waiters = self._flights[key]
        if waiters is None:
            waiters = self._flights[key] = []
        waiters.append(waiter)
        timer = loop.call_later(timeout_seconds, _give_up, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()

    def end(self, key: CacheKey, answer: SharedAnswer | Unshared) -> None:
        """Give the answer to those who wait."""
        for waiter in self._flights.pop(key) or ():
            if not waiter.done():
                waiter.set_result(answer)


def _give_up(waiter: asyncio.Future[SharedAnswer | Unshared]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
