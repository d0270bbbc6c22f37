"""Writing usage down: before the client hears that it is over, and however long the database is away."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from orchestrator.domain.patience import Patience
from orchestrator.domain.ports import UsageLog
from orchestrator.domain.tasks import Tasks
from orchestrator.domain.usage import RequestUsage

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 10.0


class Recorder:
    """Records each event once it can be, for as long as the process lives.

    The answer has been streamed by the time its usage is recorded, so a client waits for it only so long. What is still
    not written when the process ends is booked to exposure when the reservation's lease runs out. `Tasks` bounds how
    much can wait: it admits no new request when too much does.
    """

    def __init__(
        self,
        log: UsageLog,
        tasks: Tasks,
        patience: timedelta,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`patience` is how long a caller of `record` waits at most."""
        self._log = log
        self._tasks = tasks
        self._patience = Patience(patience)
        self._sleep = sleep
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many events are not written yet and have nobody else waiting for them."""
        return self._waiting

    async def record(self, usage: RequestUsage) -> None:
        """Write `usage`, or leave it to a task of its own when that takes longer than the caller waits."""
        try:
            written = await self._patience.wait(self._wrote(usage))
        except TimeoutError:
            written = False
        if not written:
            self._tasks.start(self._until_written(usage))

    async def _until_written(self, usage: RequestUsage) -> None:
        self._waiting += 1
        longest = FIRST_WAIT_SECONDS
        try:
            while True:
                # Full jitter: when Postgres comes back, not everybody comes at once.
                await self._sleep(random.uniform(0, longest))  # noqa: S311 - no secret
                if await self._wrote(usage):
                    return
                longest = min(longest * 2, LONGEST_WAIT_SECONDS)
        finally:
            self._waiting -= 1

    async def _wrote(self, usage: RequestUsage) -> bool:
        try:
            await self._log.record(usage)
        except Exception:  # noqa: BLE001 - money is recorded whatever stands in the way, also a bug; the log says what does
            return False
        return True
