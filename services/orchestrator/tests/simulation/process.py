"""Processes that die, freeze and thaw at any await."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.errors import ArgosyError

MAX_STALL_SECONDS = 10.0
START = datetime(2026, 1, 1, tzinfo=UTC)


class Process:
    """Some tasks that live and die together. Every call to another process or store passes `gate` before and after.

    The tasks of a dead process stay where they are at their next gate: `finally` blocks do not run, as after SIGKILL.
    """

    def __init__(
        self, name: str, skew: timedelta, on_bug: Callable[[str], None], rng: random.Random, stalls: float = 0.0
    ) -> None:
        """`skew`: how far its clock is off. `on_bug` gets errors that no code expects.

        `stalls`: the share of gates at which a task stays for some seconds, as on an overloaded machine.
        """
        self.name = name
        self._rng = rng
        self._stalls = stalls
        self.alive = True
        self.is_over = False
        """Set when the simulation ends: its tasks are to end, too."""
        self.tasks: set[asyncio.Task[Any]] = set()
        self.on_death: list[Callable[[], None]] = []
        # Kept, so that no task is collected, for that would run its `finally` blocks.
        self._never: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self._skew = skew
        self._on_bug = on_bug
        self._thawed = asyncio.Event()
        self._thawed.set()

    def now(self) -> datetime:
        """Its own idea of the time."""
        return START + timedelta(seconds=self._loop.time()) + self._skew

    def monotonic(self) -> float:
        return self._loop.time() + self._skew.total_seconds()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    async def gate(self) -> None:
        """Return when the process runs: later when it is frozen, never when it is dead."""
        while True:
            if self.is_over:
                raise asyncio.CancelledError
            if not self.alive:
                never = self._loop.create_future()
                self._never.append(never)
                await never
            if not self._thawed.is_set():
                await self._thawed.wait()
            elif self._stalls and self._rng.random() < self._stalls:
                await asyncio.sleep(self._rng.uniform(0, MAX_STALL_SECONDS))
            else:
                return

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.gate()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def freeze(self, seconds: float) -> None:
        self._thawed.clear()
        self._loop.call_later(seconds, self._thawed.set)

    def kill(self) -> None:
        self.alive = False
        for callback in self.on_death:
            callback()

    def report(self, error: BaseException) -> None:
        """Note an error that a task ended with."""
        if self.alive and not isinstance(error, ArgosyError | asyncio.CancelledError):
            self._on_bug(f"{self.name}: {type(error).__name__}: {error}")

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(error)
