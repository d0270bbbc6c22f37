"""Ends the calls that would outlast the drain."""

import asyncio
from collections.abc import Callable
from datetime import timedelta


class AbortOnDrain:
    """A lifecycle component that calls `abort` some time after the drain began, before the server cuts its calls.

    It must be stopped before the server is: `stop` only sets the timer, and returns.
    """

    name = "abort-on-drain"

    def __init__(self, abort: Callable[[], None], after: timedelta) -> None:
        self._abort = abort
        self._after = after

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        asyncio.get_running_loop().call_later(self._after.total_seconds(), self._abort)
