"""Waiting only so long, where many wait."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")


class Patience:
    """As `asyncio.timeout`, for many tasks that all wait equally long.

    They share one timer: setting one for each, and taking it back, is a tenth of what a whole request may cost.
    """

    def __init__(self, time: timedelta) -> None:
        self._seconds = time.total_seconds()
        # In the order of their ends, because all wait equally long.
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._watching = False

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await, in a task that waits once at a time. Raises `TimeoutError`, with the awaitable cancelled."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can wait")
        loop = asyncio.get_running_loop()
        cancelled = task.cancelling()
        self._waiting[task] = due = loop.time() + self._seconds
        if not self._watching:
            self._watching = True
            loop.call_at(due, self._look)
        try:
            return await awaitable
        except asyncio.CancelledError:
            # Somebody else may have cancelled the task as well: that has to be obeyed.
            if task in self._late and task.uncancel() <= cancelled:
                raise TimeoutError from None
            raise
        finally:
            self._waiting.pop(task, None)
            self._late.discard(task)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, due in list(self._waiting.items()):
            if due > now:
                loop.call_at(due, self._look)
                return
            del self._waiting[task]
            self._late.add(task)
            task.cancel()
        self._watching = False
