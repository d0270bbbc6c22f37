"""Refreshes the routes periodically."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from chassis.aio import Backoff, wait_or_stop
from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from orchestrator.metrics import ROUTES_VERSION
from orchestrator.routing.choose import RouteCache

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
