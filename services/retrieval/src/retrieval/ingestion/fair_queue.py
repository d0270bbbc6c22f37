"""Work that waits in this process: bounded and fair to tenants. Postgres has the truth, this only the order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

MAX_QUEUED = 10_000


class WorkKey(Protocol):
    """An attachment, or other work of a tenant; hashable."""

    @property
    def turn(self) -> str:
        """Whose turn it takes: the files of a tenant, or its migrations."""

    def __hash__(self) -> int: ...


class FairQueue:
    """Tenants take turns, so a thousand files of one tenant delay another's first file by one file."""

    def __init__(self, max_size: int = MAX_QUEUED) -> None:
        self._max_size = max_size
        self._queued: set[WorkKey] = set()
        # In the order of the tenants' turns.
        self._by_tenant: dict[str, deque[WorkKey]] = {}
        self._not_empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queued)

    def put(self, key: WorkKey) -> bool:
        """Queue `key` once. Returns False when the queue is full: the attachment stays overdue and is queued later."""
        if key in self._queued:
            return True
        if len(self._queued) >= self._max_size:
            return False
        self._queued.add(key)
        self._by_tenant.setdefault(key.turn, deque()).append(key)
        self._not_empty.set()
        return True

    def has_other_tenants(self, tenant_id: str) -> bool:
        """Whether files of a tenant other than this one are queued."""
        return bool(self._by_tenant.keys() - {tenant_id})

    async def get(self) -> WorkKey:
        """Take the next key; wait for one when the queue is empty."""
        while not self._by_tenant:
            self._not_empty.clear()
            await self._not_empty.wait()
        tenant_id, keys = next(iter(self._by_tenant.items()))
        key = keys.popleft()
        del self._by_tenant[tenant_id]
        if keys:
            self._by_tenant[tenant_id] = keys
        self._queued.discard(key)
        return key


async def consume(stop: asyncio.Event, queue: FairQueue, run: Callable[[Any], Awaitable[None]]) -> None:
    """Call `run` for one key after the other until `stop` is set; the current call is cancelled then."""

    async def consume_forever() -> None:
        while True:
            await run(await queue.get())

    consuming = asyncio.create_task(consume_forever())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([consuming, stopping], return_when=asyncio.FIRST_COMPLETED)
    for task in (consuming, stopping):
        task.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    try:
        await consuming
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
