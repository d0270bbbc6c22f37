"""Writes usage events, with retries for as long as the process runs."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from chassis.aio import SharedTimeout
from chassis.ids import new_id
from chassis.tenancy import Principal

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.usage.model import AttemptUsage, CacheUse, RequestUsage, RightSizingUse
from orchestrator.usage.ports import UsageOutbox

INITIAL_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 10.0


class UsageRecorder:
    """Records the usage of requests.

    A client waits for its usage event for `timeout` at most; writing it goes on in the background. An event that is
    still unwritten when the process ends is booked to exposure when its reservation's lease expires. `BackgroundTasks`
    bounds how many events wait: at its limit no new request starts.
    """

    def __init__(
        self,
        outbox: UsageOutbox,
        tasks: BackgroundTasks,
        timeout: timedelta,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outbox = outbox
        self._tasks = tasks
        self._timeout = SharedTimeout(timeout)
        self._sleep = sleep
        self.retrying = 0
        """Usage events being retried in the background."""

    async def record(
        self,
        principal: Principal,
        request_id: str,
        attempts: tuple[AttemptUsage, ...],
        cache: CacheUse | None = None,
        right_sizing: RightSizingUse | None = None,
    ) -> None:
        """Write the event that settles a request's reservation. No attempts release it."""
        usage = RequestUsage(
            new_id("evt_"),
            principal.tenant_id,
            principal.project_id,
            principal.key_id,
            request_id,
            attempts,
            cache,
            right_sizing,
        )
        try:
            written = await self._timeout.wait(self._try_write(usage))
        except TimeoutError:
            written = False
        if not written:
            self._tasks.start(self._retry_until_written(usage), (usage.tenant_id, usage.request_id))

    async def _retry_until_written(self, usage: RequestUsage) -> None:
        self.retrying += 1
        backoff = INITIAL_BACKOFF_SECONDS
        try:
            while True:
                # Full jitter: not all waiting events reach Postgres at once when it is back.
                await self._sleep(random.uniform(0, backoff))  # noqa: S311 - no secret
                if await self._try_write(usage):
                    return
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
        finally:
            self.retrying -= 1

    async def _try_write(self, usage: RequestUsage) -> bool:
        try:
            await self._outbox.write(usage)
        except Exception:  # noqa: BLE001 - usage is written whatever fails, a bug included; the outbox logs the cause
            return False
        return True
