"""Work that outlives the call which began it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from chassis.errors import Unavailable

T = TypeVar("T")


class Tasks:
    """Running work: tracked, bounded, and awaited before the process ends."""

    def __init__(self, most: int, on_crash: Callable[[BaseException], None]) -> None:
        """At most `most` are admitted at once; `on_crash` hears of exceptions that nobody else may be there to hear."""
        self._most = most
        self._on_crash = on_crash
        self._preparing = 0
        self._running: set[asyncio.Task[Any]] = set()
        self._left: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return self._preparing + len(self._running)

    @property
    def left(self) -> int:
        """How many run although whoever waited for them went away."""
        return len(self._left)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Keep room for the work that the block prepares and starts. Raises `Unavailable` when there is none."""
        if len(self) >= self._most:
            raise Unavailable("too many requests are being answered")
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` whatever becomes of the caller. What was begun is not refused here: see `admitted`."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Note that nobody waits for `task` any more; it goes on."""
        if task in self._running:
            self._left.add(task)

    async def idle(self) -> None:
        """Wait until nothing runs any more, also what began meanwhile."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._left.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(error)
