"""Breaks an await that takes too long, or that nobody wants any more."""

import asyncio
from math import inf
from types import TracebackType
from typing import Self

from inference_worker.domain.failures import Stopped


class Overdue(Exception):
    """The awaited thing did not happen in time."""


class Leash:
    """Holds one block of awaits at a time, against a due time and against `stop`: `with leash.until(due): await …`.

    A stream holds once per read, so a hold must cost next to nothing: instead of a timer per await there is
    one that looks, when it rings, whether the await of that moment is due, and sleeps on if it is not.
    Nothing outside of a hold is ever interrupted.
    """

    __slots__ = ("_broken_by", "_cancelling", "_due", "_loop", "_rings_at", "_stopped", "_task", "_timer", "_wanted")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._wanted = self._due = inf
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf
        self._broken_by: Exception | None = None
        self._stopped: Stopped | None = None

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped is not None

    def now(self) -> float:
        """The loop's own time in seconds: what due times are measured in."""
        return self._loop.time()

    def stop(self, reason: Stopped) -> None:
        """Break the current hold and refuse all later ones, with `reason`. Safe to repeat."""
        self._stopped = self._stopped or reason
        self._break(self._stopped)

    def release(self) -> None:
        """Drop the timer; call it when the last hold is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._rings_at = inf

    def until(self, due: float) -> Self:
        """Hold what is awaited in the block; raises `Overdue` once `due` has passed, and after a `stop` its reason."""
        self._wanted = due
        return self

    def __enter__(self) -> None:
        if self._stopped is not None:
            raise self._stopped
        due = self._wanted
        if due <= self._loop.time():
            raise Overdue
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a leash holds awaits of tasks")
        self._task, self._due, self._broken_by = task, due, None
        self._cancelling = task.cancelling()
        if due < self._rings_at:
            self._ring_at(due)

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._broken_by is None or task is None:
            return
        broken_by, self._broken_by = self._broken_by, None
        # As asyncio.timeout does: only our own cancel is translated; one from outside goes on.
        if task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise broken_by from None

    def _ring_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = due
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, inf
        if self._task is None:
            return
        if self._due > self._loop.time():
            self._ring_at(self._due)
        else:
            self._break(Overdue())

    def _break(self, reason: Exception) -> None:
        if self._task is not None and self._broken_by is None:
            self._broken_by = reason
            self._task.cancel()
