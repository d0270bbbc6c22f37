"""Lets cached answers go on together while many are given."""

import asyncio
from typing import Final

INTERVAL_SECONDS: Final = 0.004
"""Between two groups, while groups have several answers. As long as a group commit of what a miss reserves waits."""


class Pace:
    """Callers of `wait` go on in groups: a message between services costs as much as making the answers in it.

    A caller that is alone, or comes later than `INTERVAL_SECONDS` after a group of several, goes on within the turn of
    the event loop. So answers are only held back where their messages can be shared.
    """

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._interval_seconds = interval_seconds
        self._waiting: list[asyncio.Future[None]] = []
        self._not_before = 0.0

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            delay = self._not_before - loop.time()
            if delay > 0:
                loop.call_later(delay, self._go_on)
            else:
                loop.call_soon(self._go_on)
        await waiter

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        several = len(waiting) > 1
        self._not_before = asyncio.get_running_loop().time() + self._interval_seconds if several else 0.0
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
