"""Tasks that outlive the request that started them."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from chassis.errors import Unavailable

T = TypeVar("T")

RequestKey = tuple[str, str]
"""Tenant and id of a request."""


class BackgroundTasks:
    """Tracks tasks, limits how many new requests start them, and waits for them at shutdown."""

    def __init__(self, max_tasks: int, on_error: Callable[[BaseException], None]) -> None:
        """`on_error` receives the exception of every failed task, because its request may have ended before."""
        self._max_tasks = max_tasks
        self._on_error = on_error
        self._slots_taken = 0
        self._running: dict[asyncio.Task[Any], tuple[RequestKey, ...]] = {}
        self._detached: set[asyncio.Task[Any]] = set()
        self._requests: dict[RequestKey, int] = {}

    def __len__(self) -> int:
        return self._slots_taken + len(self._running)

    @property
    def detached(self) -> int:
        """Running tasks that no request waits for."""
        return len(self._detached)

    def is_running(self, request: RequestKey) -> bool:
        """Tell whether this process prepares the request, runs it, or has its usage to write."""
        return request in self._requests

    def slot(self, request: RequestKey) -> AbstractContextManager[None]:
        """Take a concurrency slot while the block prepares and starts its task. Raises `Unavailable` at the limit."""
        return _Slot(self, request)

    def _take_slot(self, request: RequestKey) -> None:
        if self._slots_taken + len(self._running) >= self._max_tasks:
            raise Unavailable("too many requests are being answered")
        self._slots_taken += 1
        self._enter(request)

    def _give_slot(self, request: RequestKey) -> None:
        self._slots_taken -= 1
        self._leave(request)

    def start(self, work: Coroutine[Any, Any, T], *requests: RequestKey) -> asyncio.Task[T]:
        """Run `work` for `requests` in a task that the caller's cancellation does not reach.

        The limit is checked by `slot` only.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._running[task] = requests
        for request in requests:
            self._enter(request)
        task.add_done_callback(self._on_done)
        return task

    def detach(self, task: asyncio.Task[Any]) -> None:
        """Count `task` as detached until it ends: its request no longer waits for it."""
        if task in self._running:
            self._detached.add(task)

    async def wait_idle(self) -> None:
        """Wait until no task runs, including tasks that start in the meantime."""
        while self._running:
            await asyncio.wait(self._running)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        for request in self._running.pop(task):
            self._leave(request)
        self._detached.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)

    def _enter(self, request: RequestKey) -> None:
        self._requests[request] = self._requests.get(request, 0) + 1

    def _leave(self, request: RequestKey) -> None:
        count = self._requests[request] - 1
        if count:
            self._requests[request] = count
        else:
            del self._requests[request]


class _Slot:
    """A class, not a generator: every request enters one."""

    __slots__ = ("_request", "_tasks")

    def __init__(self, tasks: BackgroundTasks, request: RequestKey) -> None:
        self._tasks = tasks
        self._request = request

    def __enter__(self) -> None:
        self._tasks._take_slot(self._request)

    def __exit__(self, *_: object) -> None:
        self._tasks._give_slot(self._request)
