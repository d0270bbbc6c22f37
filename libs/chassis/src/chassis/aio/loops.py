"""Loops that run until the service stops, and what they need: waits, backoff, periodic calls, logs of outages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import monotonic
from typing import Any

from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.logs import Logger
from chassis.telemetry.rate_limited import RateLimitedLog

OUTAGE_LOG_INTERVAL_SECONDS = 10.0

log = logger("chassis.periodic")

LoopBody = Callable[[asyncio.Event], Awaitable[None]]


class Loop:
    """A component of the lifecycle that runs `body(stop)` in the background.

    The body returns soon after `stop` is set; its error stops the service.
    """

    def __init__(self, name: str, body: LoopBody) -> None:
        self.name = name
        self._body = body
        self._stop = asyncio.Event()

    async def start(self) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Set `stop` and wait for the body; when cancelled, cancel it."""
        self._stop.set()
        await self._task

    async def _run(self) -> None:
        try:
            await self._body(self._stop)
        except Exception as error:  # noqa: BLE001 - reported to the lifecycle, which ends the process
            self.failed.set_exception(error)


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for `seconds`, or less when `stop` is set meanwhile. Returns whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return stop.is_set()
    return True


def periodic(interval: timedelta, run_once: Callable[[], Awaitable[bool | None]], name: str) -> LoopBody:
    """Make the body of a `Loop` that calls `run_once` until it is stopped.

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


class Backoff:
    """Random waits between zero and a bound that doubles from `min_seconds` to `max_seconds`.

    Full jitter keeps many clients that lost the same peer from reconnecting at the same moment.
    """

    def __init__(
        self,
        min_seconds: float = 0.1,
        max_seconds: float = 30.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._uniform = uniform
        self.failures = 0

    def next(self) -> float:
        """Count one more failure and return the seconds to wait."""
        bound = min(self._max_seconds, self._min_seconds * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return self._uniform(0.0, bound)

    def reset(self) -> None:
        self.failures = 0


class ConnectionLog:
    """Logs changes between connected and not connected, so that an outage of an hour is two lines.

    It starts as connected, so the first success is not logged. `lost` and `recovered` are the log events. A changed
    reason of the outage is logged too. A connection that is lost again and again logs one loss per interval; the line
    says how many were left out as `suppressed`.
    """

    def __init__(self, log: Logger, lost: str, recovered: str, **fields: Any) -> None:
        self._log = log
        self._lost = lost
        self._recovered = recovered
        self._fields = fields
        self._logged: dict[str, Any] | None = None  # the fields of the loss that was logged, while it lasts
        self._next = 0.0
        self._suppressed = 0
        self.connected = True

    def set(self, *, connected: bool, **fields: Any) -> None:
        """Report the current state; `fields` are logged if it has changed."""
        if connected:
            if self._logged is not None:
                self._log.info(self._recovered, **self._fields, **fields)
            self._logged, self.connected = None, True
        elif self.connected or fields != self._logged:
            self._log_loss(fields)
            self.connected = False

    def _log_loss(self, fields: dict[str, Any]) -> None:
        now = monotonic()
        if now < self._next:
            self._suppressed += self.connected
            return
        suppressed = {"suppressed": self._suppressed} if self._suppressed else {}
        self._log.warning(self._lost, **self._fields, **fields, **suppressed)
        self._logged, self._next, self._suppressed = fields, now + OUTAGE_LOG_INTERVAL_SECONDS, 0
