"""Refreshes the routes periodically, and shares with other replicas how fast their candidates answer."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Protocol

import orjson
from chassis.aio import Backoff, wait_or_stop
from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from orchestrator.metrics import ROUTES_VERSION
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.scores import FAILURE_SECONDS, MAX_UNSHARED, ScoreCount, Scores

SHARE_INTERVAL: Final = timedelta(seconds=5)
MAX_CALLS: Final = 1_000_000
"""Of one candidate in one message."""
MAX_SECONDS: Final = 3_600.0 + FAILURE_SECONDS
"""For which one call counts."""

log = logger("orchestrator.routes")


async def refresh_once(routes: RouteCache) -> None:
    """Refresh the routes. Raises `Unavailable`."""
    if await routes.refresh():
        version = routes.table().version
        ROUTES_VERSION.set(version)
        log.info("routes_loaded", version=version)


def refresh_routes(routes: RouteCache, interval: timedelta) -> Callable[[asyncio.Event], Awaitable[None]]:
    """Make a loop body that refreshes the routes every `interval`; after a failure sooner, with backoff."""
    interval_seconds = interval.total_seconds()

    async def body(stop: asyncio.Event) -> None:
        backoff, failure_log = Backoff(max_seconds=interval_seconds), RateLimitedLog(log)
        while not stop.is_set():
            pause_seconds = interval_seconds
            try:
                await refresh_once(routes)
                backoff.reset()
            except ArgosyError as error:
                failure_log.warning(
                    "routes_refresh_failed",
                    key=error.reason,
                    error=error.message,
                    age_seconds=round(routes.age_seconds),
                )
                pause_seconds = backoff.next()
            except Exception as error:  # noqa: BLE001 - what the store answers must not end the service
                failure_log.warning("routes_refresh_failed", key=type(error).__name__, exc_info=error)
                pause_seconds = backoff.next()
            await wait_or_stop(stop, pause_seconds)

    return body


class ScoreChannel(Protocol):
    """How replicas tell each other; Redis in production, memory in tests."""

    async def publish(self, message: bytes) -> None:
        """Tell all replicas that listen now, this one included. Raises `Unavailable`."""


class ScoreSharing:
    """Tells other replicas what this one counts. Requests never wait for it; without it each knows its own."""

    def __init__(self, scores: Scores, channel: ScoreChannel, replica: str) -> None:
        """`replica` is this one's id."""
        self._scores = scores
        self._channel = channel
        self._replica = replica
        self._failure_log = RateLimitedLog(log)

    async def share(self) -> None:
        """Tell what was counted since the last time. What cannot be sent is lost for the others."""
        counts = self._scores.take_unshared()
        if not counts:
            return
        try:
            await self._channel.publish(orjson.dumps({"replica": self._replica, "scores": list(map(tuple, counts))}))
        except ArgosyError as error:
            self._failure_log.warning("scores_not_shared", key=error.reason, error=error.message)

    async def receive(self, message: bytes) -> None:
        """Count what another replica counted. What cannot be read is left out."""
        try:
            found = orjson.loads(message)
            if found["replica"] != self._replica:
                self._scores.add([_to_count(one) for one in found["scores"][:MAX_UNSHARED]])
        except (ValueError, KeyError, TypeError) as error:
            self._failure_log.warning("scores_message_unreadable", key="unreadable", error=type(error).__name__)


def _to_count(document: Any) -> ScoreCount:
    """Raises `ValueError` or `TypeError` for what no replica counts."""
    price_key, stream, calls, seconds = document
    if not isinstance(price_key, str) or not isinstance(stream, bool):
        raise TypeError("a score is of a candidate and a form of answer")
    count = ScoreCount(price_key, stream, int(calls), float(seconds))
    if not 0 < count.calls <= MAX_CALLS or not 0 <= count.seconds <= MAX_SECONDS * count.calls:
        raise ValueError("a score is out of bounds")
    return count
