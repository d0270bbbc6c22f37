"""What waits to be indexed in this process: bounded, fair to tenants. Postgres has the truth, this only the order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from retrieval.domain.ingestion import AttachmentKey

MOST_WAITING = 10_000


class Backlog:
    """Tenants take turns, so one that attaches a thousand files delays the next by one file."""

    def __init__(self, bound: int = MOST_WAITING) -> None:
        self._bound = bound
        self._known: set[AttachmentKey] = set()
        self._turns: dict[str, deque[AttachmentKey]] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._known)

    def offer(self, key: AttachmentKey) -> bool:
        """Queue `key`, once; False when there is no room: it stays due, and is offered again."""
        if key in self._known:
            return True
        if len(self._known) >= self._bound:
            return False
        self._known.add(key)
        self._turns.setdefault(key.tenant_id, deque()).append(key)
        self._filled.set()
        return True

    def others_wait(self, tenant_id: str) -> bool:
        """Whether a tenant other than this one waits."""
        return bool(self._turns.keys() - {tenant_id})

    async def take(self) -> AttachmentKey:
        """The next one; waits for it."""
        while not self._turns:
            self._filled.clear()
            await self._filled.wait()
        tenant_id, keys = next(iter(self._turns.items()))
        key = keys.popleft()
        del self._turns[tenant_id]
        if keys:
            self._turns[tenant_id] = keys
        self._known.discard(key)
        return key


async def work(stop: asyncio.Event, backlog: Backlog, run: Callable[[AttachmentKey], Awaitable[None]]) -> None:
    """Run what waits, one after the other, until `stop`; a run that is cut off then lets go of its file."""

    async def forever() -> None:
        while True:
            await run(await backlog.take())

    working = asyncio.create_task(forever())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stopping):
        task.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    try:
        await working
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
