"""Records cached answers: many together, soon after they were given."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from chassis.errors import Unavailable
from chassis.ids import new_id

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.usage.model import Hits, RequestUsage
from orchestrator.usage.ports import HitOutbox
from orchestrator.usage.record import INITIAL_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS

COALESCE_SECONDS: Final = 0.25
"""From the first hit until it is written with those that came meanwhile."""
MAX_TOGETHER: Final = 1_000
"""Hits that are written in one statement. A record of Kafka has room for several thousand."""
MAX_WAITING: Final = 20_000
"""Hits that are not written yet. At this limit no cached answer is given."""


class HitRecorder:
    """Keeps hits in memory until they are in the outbox.

    No answer waits for its record: nothing is to be paid, or what is to be paid stands with its reservation.

    What a process has not written when it is killed is missing in reports, or in those of the cache if it is paid: at
    most what it gave in `COALESCE_SECONDS`, or since Postgres went away. A process that ends in order writes it first.
    """

    def __init__(
        self, outbox: HitOutbox, tasks: BackgroundTasks, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._outbox = outbox
        self._tasks = tasks
        self._sleep = sleep
        self._waiting: list[RequestUsage] = []
        self._unwritten = 0
        self._is_busy = False

    def require_room(self) -> None:
        """Raise `Unavailable` at the limit of what may wait."""
        if len(self._waiting) + self._unwritten >= MAX_WAITING:
            raise Unavailable("too many cached answers wait until their use can be recorded")

    def add(self, hit: RequestUsage) -> None:
        """Record a hit soon. Its event id is not used. Its caller has asked whether there is room."""
        self._waiting.append(hit)
        if not self._is_busy:
            self._is_busy = True
            self._tasks.start(self._write_all(), ("", new_id("hits_")))

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await self._sleep(COALESCE_SECONDS)
                waiting, self._waiting = self._waiting, []
                self._unwritten = len(waiting)
                for start in range(0, len(waiting), MAX_TOGETHER):
                    part = waiting[start : start + MAX_TOGETHER]
                    await self._write(by_tenant(part))
                    self._unwritten -= len(part)
        finally:
            self._is_busy = False

    async def _write(self, together: Sequence[Hits]) -> None:
        backoff = INITIAL_BACKOFF_SECONDS
        while not await self._try_write(together):
            # Full jitter: not all processes reach Postgres at once when it is back.
            await self._sleep(random.uniform(0, backoff))  # noqa: S311 - no secret
            backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)

    async def _try_write(self, together: Sequence[Hits]) -> bool:
        try:
            await self._outbox.write_hits(together)
        except Exception:  # noqa: BLE001 - as usage events: written whatever fails; the outbox logs the cause
            return False
        return True


def by_tenant(hits: Sequence[RequestUsage]) -> list[Hits]:
    """Group hits by tenant, each group with an id under which writing it again changes nothing."""
    groups: dict[str, list[RequestUsage]] = {}
    for hit in hits:
        groups.setdefault(hit.tenant_id, []).append(hit)
    return [Hits(new_id("evt_"), tenant_id, tuple(group)) for tenant_id, group in groups.items()]
