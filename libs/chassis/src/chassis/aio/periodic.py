"""Work that is repeated until the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from chassis.errors import ArgosyError
from chassis.telemetry import logger

log = logger("chassis.periodic")

LoopBody = Callable[[asyncio.Event], Awaitable[None]]


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for `seconds`, or less when `stop` is set meanwhile. Returns whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return stop.is_set()
    return True


def periodic(interval: timedelta, run_once: Callable[[], Awaitable[bool | None]], name: str) -> LoopBody:
    """Make the body of a `chassis.lifecycle.Loop` that calls `run_once` until it is stopped.

    It calls again at once when the result is True (there may be more to do), else after `interval`. An `ArgosyError` is
    logged, and the next call is made after `interval`; any other error ends the service.
    """
    seconds = interval.total_seconds()

    async def body(stop: asyncio.Event) -> None:
        while not stop.is_set():
            more = False
            try:
                more = bool(await run_once())
            except ArgosyError as error:
                log.warning("periodic_failed", task=name, reason=error.reason, message=error.message)
            if not more:
                await wait_or_stop(stop, seconds)

    return body
