"""Grouped commits: what waits while a batch is being committed goes together in the next one."""

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
    """Turns many small writes into few transactions without making a lone one wait.

    `commit` receives the items of a batch and returns one result per item, in order; a result that is an `ArgosyError`
    is raised to its waiter alone. When `commit` itself raises, every waiter of the batch gets that exception.

    `pace` saves work under load: after a batch of more than one item the next begins `pace` after it at the earliest.
    Whoever comes alone, or finds the last batch that old, waits for nothing.
    """

    def __init__(
        self,
        commit: Callable[[list[T]], Awaitable[list[R | ArgosyError]]],
        max_batch: int = 256,
        workers: int = 1,
        max_waiting: int = 4096,
        pace: timedelta = timedelta(0),
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._workers = workers
        self._max_waiting = max_waiting
        self._pace_seconds = pace.total_seconds()
        self._not_before = 0.0
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._active = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: T) -> R:
        """Commit `item` with what else waits and return its result.

        Raises `Unavailable` at once when too many wait. A cancelled waiter whose batch has not begun is left out of it;
        one whose batch is being committed disturbs nobody, and its item is committed.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Unavailable("too many writes wait for the database")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, answer))
        if self._active < self._workers:
            self._active += 1
            # In a context of its own: the batch serves many callers, so it must not run as the first of them.
            task = loop.create_task(self._work(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._keep_pace()
                if batch := self._take():
                    await self._settle(batch)
        finally:
            # In the same turn as the look that found nothing: an item that comes now must start a worker again.
            self._active -= 1

    async def _keep_pace(self) -> None:
        wait = self._not_before - monotonic()
        if wait > 0 and len(self._waiting) < self._max_batch:
            await asyncio.sleep(wait)

    async def _settle(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._commit([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"a batch of {len(batch)} items got {len(results)} results")
        except BaseException as error:
            _fail(batch, error)
            if isinstance(error, Exception):
                return
            raise
        for (_, answer), result in zip(batch, results, strict=True):
            if answer.done():
                continue
            if isinstance(result, ArgosyError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < self._max_batch:
            entry = self._waiting.popleft()
            if not entry[1].done():
                batch.append(entry)
        self._not_before = monotonic() + self._pace_seconds if len(batch) > 1 else 0.0
        return batch


def _fail(batch: list[tuple[T, asyncio.Future[R]]], error: BaseException) -> None:
    # A cancelled commit (the process stops) is no cancellation of those who wait for it.
    reason = error if isinstance(error, Exception) else Unavailable("the write was given up")
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(reason)
