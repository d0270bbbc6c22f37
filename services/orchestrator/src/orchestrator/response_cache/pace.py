"""Lets cached answers go on together while many are given."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Final, Generic, TypeVar

T = TypeVar("T")

INTERVAL_SECONDS: Final = 0.004
"""Between two groups, while groups have several answers. As long as a group commit of what a miss reserves waits."""


class PacedGroups(Generic[T]):
    """Items go on in groups: a message between services costs as much as making the answers in it.

    An item that is alone, or comes later than `interval_seconds` after a group of several, goes on within the turn of
    the event loop. So answers are only held back where their messages can be shared.
    """

    def __init__(self, go_on: Callable[[list[T]], None], interval_seconds: float = INTERVAL_SECONDS) -> None:
        """`go_on` gets each group, in a context of its own: a group is of many callers."""
        self._go_on = go_on
        self._interval_seconds = interval_seconds
        self._waiting: list[T] = []
        self._not_before = 0.0

    def add(self, item: T) -> None:
        self._waiting.append(item)
        if len(self._waiting) == 1:
            loop = asyncio.get_running_loop()
            delay = self._not_before - loop.time()
            if delay > 0:
                loop.call_later(delay, self._end_group, context=Context())
            else:
                loop.call_soon(self._end_group, context=Context())

    def _end_group(self) -> None:
        group, self._waiting = self._waiting, []
        several = len(group) > 1
        self._not_before = asyncio.get_running_loop().time() + self._interval_seconds if several else 0.0
        self._go_on(group)


class Pace:
    """Callers of `wait` go on in groups."""

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._groups: PacedGroups[asyncio.Future[None]] = PacedGroups(_wake_all, interval_seconds)

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._groups.add(waiter)
        await waiter


def _wake_all(waiting: list[asyncio.Future[None]]) -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(None)
