"""Background work of jobs: dispatch, reaping, partitions."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from chassis.aio import wait_or_stop
from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from orchestrator.jobs.dispatch import Dispatcher
from orchestrator.jobs.ports import JobStore

log = logger("orchestrator.jobs")

MIN_ROUND_SECONDS = 0.002
"""From one round to the next under load: a round of more jobs costs hardly more than a round of one."""


class DispatchLoop:
    """Runs rounds when it is woken, and every `interval`: workers and due times change without a call here."""

    def __init__(self, dispatcher: Dispatcher, interval: timedelta) -> None:
        self._dispatcher = dispatcher
        self._interval_seconds = interval.total_seconds()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Run a round soon: a job is due, or a worker has room."""
        self._woken.set()

    async def __call__(self, stop: asyncio.Event) -> None:
        """Run until stopped."""
        backoff, failure_log = Backoff(max_seconds=5.0), RateLimitedLog(log)
        stopping = asyncio.create_task(_wake_on_stop(stop, self._woken))
        try:
            while not stop.is_set():
                self._woken.clear()
                try:
                    again = await self._dispatcher.run_round()
                    backoff.reset()
                except Exception as error:  # noqa: BLE001 - what the store answers must not end the service
                    reason = error.reason if isinstance(error, ArgosyError) else type(error).__name__
                    expected = isinstance(error, ArgosyError)
                    failure_log.warning("dispatch_failed", key=reason, exc_info=None if expected else error)
                    await wait_or_stop(stop, backoff.next())
                    continue
                if not again:
                    await wait_or_stop(self._woken, self._interval_seconds)
                await asyncio.sleep(MIN_ROUND_SECONDS)
        finally:
            stopping.cancel()


async def _wake_on_stop(stop: asyncio.Event, woken: asyncio.Event) -> None:
    await stop.wait()
    woken.set()


def log_bug(error: Exception) -> None:
    """Log that a request could not be checked. Its message may quote the request, and stays out."""
    log.error("job_not_checked", error=type(error).__name__)


def keep_partitions(store: JobStore, days_ahead: int) -> Callable[[], Awaitable[None]]:
    """Make what `periodic` calls to keep partitions ahead of the longest retention."""

    async def run_once() -> None:
        made, dropped = await store.keep_partitions(days_ahead)
        if made or dropped:
            log.info("job_partitions_kept", made=made, dropped=dropped)

    return run_once
