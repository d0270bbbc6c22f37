"""Keeps the upstreams of a process current: one call at a time waits at the orchestrator for a change."""

import asyncio
from datetime import timedelta

from chassis.aio import Backoff, wait_or_stop
from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from inference_worker.metrics import MANAGED_UPSTREAMS, UNREADABLE_CREDENTIALS, UPSTREAMS_VERSION
from inference_worker.upstreams.live import LiveUpstreams
from inference_worker.upstreams.model import UpstreamSource

MAX_PAUSE = timedelta(seconds=1)

log = logger(__name__)


class UpstreamWatch:
    """`run` is the body of a loop. While the orchestrator is away, the last snapshot stays in force."""

    def __init__(self, source: UpstreamSource, upstreams: LiveUpstreams, max_pause: timedelta = MAX_PAUSE) -> None:
        """`max_pause` bounds how long after its return the orchestrator is asked again."""
        self._source = source
        self._upstreams = upstreams
        self._max_pause_seconds = max_pause.total_seconds()
        self._failure_log = RateLimitedLog(log)

    async def run(self, stop: asyncio.Event) -> None:
        backoff = Backoff(max_seconds=self._max_pause_seconds)
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                polling = asyncio.create_task(self.poll())
                await asyncio.wait({polling, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not polling.done():
                    polling.cancel()
                elif polling.result():
                    backoff.reset()
                else:
                    await wait_or_stop(stop, backoff.next())
        finally:
            stopping.cancel()

    async def poll(self) -> bool:
        """Wait for a newer snapshot and put it in force; return whether the orchestrator answered."""
        try:
            snapshot = await self._source.wait_newer(self._upstreams.version)
            if snapshot is not None:
                await self._upstreams.apply(snapshot)
                UPSTREAMS_VERSION.set(snapshot.version)
                MANAGED_UPSTREAMS.set(self._upstreams.managed)
                UNREADABLE_CREDENTIALS.set(self._upstreams.unreadable)
                log.info("upstreams_applied", version=snapshot.version, upstreams=len(snapshot.upstreams))
        except ArgosyError as error:
            self._failure_log.warning("upstreams_unread", key=error.reason, error=error.message)
            return False
        except Exception as error:  # noqa: BLE001 - what the orchestrator answers must not end the service
            self._failure_log.warning("upstreams_unread", key=type(error).__name__, error=type(error).__name__)
            return False
        return True
