"""Group commit: writes that arrive while a transaction is being committed share the next transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import timedelta
from time import monotonic
from typing import Generic, TypeVar

from chassis.errors import ArgosyError, Unavailable

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Turns many small writes into few transactions without delaying a single one.

    `commit` receives the items of a batch and returns one result per item, in order; a result that is an `ArgosyError`
    is raised to its waiter alone. When `commit` raises, every waiter of the batch gets that exception.

    `interval` makes batches larger under load: after a batch of several items the next starts `interval` later at the
    earliest. An item that arrives alone, or later than that, is committed at once.
    """

    def __init__(
        self,
        commit: Callable[[list[T]], Awaitable[list[R | ArgosyError]]],
        max_batch: int = 256,
        workers: int = 1,
        max_waiting: int = 4096,
        interval: timedelta = timedelta(0),
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._workers = workers
        self._max_waiting = max_waiting
        self._interval_seconds = interval.total_seconds()
        self._not_before = 0.0
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._active = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: T) -> R:
        """Commit `item` together with other waiting items and return its result.

        Raises `Unavailable` at once when too many items wait. The item of a cancelled waiter is dropped if its batch
        has not started, and committed otherwise.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Unavailable("too many writes wait for the database")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, result))
        if self._active < self._workers:
            self._active += 1
            # In an empty context: the batch is of many callers, so it must not run as the first of them.
            task = loop.create_task(self._work(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await result

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._wait_for_interval()
                if batch := self._take():
                    await self._commit_batch(batch)
        finally:
            # In the same event loop turn as the check for items, so that the next item starts a worker again.
            self._active -= 1

    async def _wait_for_interval(self) -> None:
        wait = self._not_before - monotonic()
        if wait > 0 and len(self._waiting) < self._max_batch:
            await asyncio.sleep(wait)

    async def _commit_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._commit([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"a batch of {len(batch)} items got {len(results)} results")
        except BaseException as error:
            _fail(batch, error)
            if isinstance(error, Exception):
                return
            raise
        for (_, waiter), result in zip(batch, results, strict=True):
            if waiter.done():
                continue
            if isinstance(result, ArgosyError):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < self._max_batch:
            entry = self._waiting.popleft()
            if not entry[1].done():
                batch.append(entry)
        self._not_before = monotonic() + self._interval_seconds if len(batch) > 1 else 0.0
        return batch


def _fail(batch: list[tuple[T, asyncio.Future[R]]], error: BaseException) -> None:
    # A cancelled commit (the process stops) must not look like a cancellation of its waiters.
    reason = error if isinstance(error, Exception) else Unavailable("the write was cancelled")
    for _, waiter in batch:
        if not waiter.done():
            waiter.set_exception(reason)
