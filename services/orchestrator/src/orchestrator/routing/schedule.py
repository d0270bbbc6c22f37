"""Refreshes the routes periodically."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from chassis.aio import wait_or_stop
from chassis.backoff import Backoff
from chassis.errors import ArgosyError
from chassis.telemetry import logger

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
        backoff = Backoff(max_seconds=interval_seconds)
        while not stop.is_set():
            pause_seconds = interval_seconds
            try:
                await refresh_once(routes)
                backoff.reset()
            except ArgosyError as error:
                log.warning("routes_refresh_failed", error=error.message, age_seconds=round(routes.age_seconds))
                pause_seconds = backoff.next()
            await wait_or_stop(stop, pause_seconds)

    return body
