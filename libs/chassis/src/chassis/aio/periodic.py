"""Work that is repeated until the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

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

    It calls again at once when the result is True (there may be more to do), else after `interval`. After an error the
    next call is made after `interval`: what a store answers must not end the service. An `ArgosyError` is logged by its
    message, any other error with its traceback, at a bounded rate.
    """
    seconds = interval.total_seconds()
    failure_log = RateLimitedLog(log)

    async def body(stop: asyncio.Event) -> None:
        while not stop.is_set():
            more = False
            try:
                more = bool(await run_once())
            except ArgosyError as error:
                failure_log.warning(
                    "periodic_failed", key=error.reason, task=name, reason=error.reason, message=error.message
                )
            except Exception as error:  # noqa: BLE001 - an unexpected answer, or a bug; logged with its traceback
                failure_log.warning(
                    "periodic_failed", key=type(error).__name__, task=name, reason="INTERNAL", exc_info=error
                )
            if not more:
                await wait_or_stop(stop, seconds)

    return body
