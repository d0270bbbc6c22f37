"""Keeps what a process has of the configuration current: by announcements, and by polling as the backstop."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from chassis.aio import Backoff
from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from orchestrator.configuration.ports import Configuration
from orchestrator.metrics import CONFIGURATION_VERSION

Refresh = Callable[[], Awaitable[object]]

log = logger("orchestrator.configuration")


class ConfigurationFeed:
    """Calls each `Refresh` after each new version. `run` is the body of a loop; `wake` makes it look at once."""

    def __init__(self, configuration: Configuration, poll_interval: timedelta) -> None:
        """`poll_interval` bounds how late a change is seen without Redis."""
        self._configuration = configuration
        self._poll_seconds = poll_interval.total_seconds()
        self._refreshers: list[tuple[str, Refresh]] = []
        self._woken = asyncio.Event()
        self._seen: int | None = None
        self._failure_log = RateLimitedLog(log)

    def on_change(self, name: str, refresh: Refresh) -> None:
        """Call `refresh` after each change of any object; it reads what it needs, and is repeated when it fails."""
        self._refreshers.append((name, refresh))

    def wake(self) -> None:
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        backoff = Backoff(max_seconds=self._poll_seconds)
        stopping = asyncio.create_task(self._wake_at(stop))
        try:
            while not stop.is_set():
                self._woken.clear()
                if await self.refresh_once():
                    backoff.reset()
                    pause = self._poll_seconds
                else:
                    pause = backoff.next()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), pause)
        finally:
            stopping.cancel()

    async def refresh_once(self) -> bool:
        """Look for a new version, and refresh everything when there is one. Returns whether all of it worked."""
        try:
            version = await self._configuration.version()
        except ArgosyError as error:
            self._failure_log.warning("configuration_unread", key=error.reason, error=error.message)
            return False
        if version == self._seen:
            return True
        done = [await self._refresh(name, refresh) for name, refresh in self._refreshers]
        if not all(done):
            return False
        self._seen = version
        CONFIGURATION_VERSION.set(version)
        return True

    async def _refresh(self, name: str, refresh: Refresh) -> bool:
        try:
            await refresh()
        except ArgosyError as error:
            self._failure_log.warning("configuration_refresh_failed", key=name, what=name, error=error.message)
            return False
        except Exception as error:  # noqa: BLE001 - one part that fails must not keep the others outdated
            self._failure_log.warning("configuration_refresh_failed", key=name, what=name, exc_info=error)
            return False
        return True

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._woken.set()
