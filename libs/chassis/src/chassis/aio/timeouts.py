"""Timeouts that cost less than a timer each: a scope for one await after another, and one timer for many tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from math import inf
from types import TracebackType
from typing import Any, Self, TypeVar


class TimedOut(Exception):
    """The deadline of the block has passed."""


class CancelScope:
    """Guards one block of awaits at a time against a deadline and against `cancel`: `with scope.until(deadline): …`.

    A stream enters it once per read, so entering must cost next to nothing: instead of a timer per await there is one
    that checks, when it fires, whether the await of that moment is due, and is set again if it is not.
    What is awaited outside of a block is never interrupted.
    """

    __slots__ = (
        "_cancelling",
        "_deadline",
        "_interrupt",
        "_loop",
        "_next_deadline",
        "_reason",
        "_task",
        "_timer",
        "_timer_at",
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._next_deadline = self._deadline = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._interrupt: Exception | None = None
        self._reason: Exception | None = None

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._reason is not None

    def now(self) -> float:
        """The event loop's time in seconds, in which deadlines are given."""
        return self._loop.time()

    def cancel(self, reason: Exception) -> None:
        """Interrupt the current block and refuse all later ones, with `reason`. The first reason stays."""
        self._reason = self._reason or reason
        self._interrupt_block(self._reason)

    def close(self) -> None:
        """Drop the timer; call it after the last block."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = inf

    def until(self, deadline: float) -> Self:
        """Guard the block. It raises `TimedOut` once `deadline` has passed, and after a `cancel` its reason."""
        self._next_deadline = deadline
        return self

    def __enter__(self) -> None:
        if self._reason is not None:
            raise self._reason
        deadline = self._next_deadline
        if deadline <= self._loop.time():
            raise TimedOut
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a cancel scope guards awaits of tasks")
        self._task, self._deadline, self._interrupt = task, deadline, None
        self._cancelling = task.cancelling()
        if deadline < self._timer_at:
            self._set_timer(deadline)

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._interrupt is None or task is None:
            return
        interrupt, self._interrupt = self._interrupt, None
        # As asyncio.timeout does: only our own cancel is translated; one from outside goes on.
        if task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise interrupt from None

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer, self._timer_at = None, inf
        if self._task is None:
            return
        if self._deadline > self._loop.time():
            self._set_timer(self._deadline)
        else:
            self._interrupt_block(TimedOut())

    def _interrupt_block(self, reason: Exception) -> None:
        if self._task is not None and self._interrupt is None:
            self._interrupt = reason
            self._task.cancel()


T = TypeVar("T")


class SharedTimeout:
    """As `asyncio.timeout`, but all waiting tasks share one timer.

    Setting and cancelling a timer per task costs a tenth of the CPU time of a whole request.
    """

    def __init__(self, timeout: timedelta) -> None:
        self._seconds = timeout.total_seconds()
        # In the order of their deadlines, because all wait equally long.
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._timer_set = False

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await, in a task that waits once at a time. Raises `TimeoutError`, with the awaitable cancelled."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can wait")
        loop = asyncio.get_running_loop()
        cancelled = task.cancelling()
        self._deadlines[task] = deadline = loop.time() + self._seconds
        if not self._timer_set:
            self._timer_set = True
            loop.call_at(deadline, self._expire)
        try:
            return await awaitable
        except asyncio.CancelledError:
            # The task may have been cancelled from outside as well: that goes on.
            if task in self._expired and task.uncancel() <= cancelled:
                raise TimeoutError from None
            raise
        finally:
            self._deadlines.pop(task, None)
            self._expired.discard(task)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, deadline in list(self._deadlines.items()):
            if deadline > now:
                loop.call_at(deadline, self._expire)
                return
            del self._deadlines[task]
            self._expired.add(task)
            task.cancel()
        self._timer_set = False
