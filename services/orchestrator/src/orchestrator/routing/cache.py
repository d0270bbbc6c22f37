"""Routes in memory."""

import asyncio
from datetime import timedelta

from chassis.backoff import Backoff
from chassis.clock import Clock
from chassis.errors import ArgosyError, Unavailable
from chassis.telemetry import logger

from orchestrator.domain.ports import RouteBook
from orchestrator.domain.routes import RouteTable
from orchestrator.metrics import ROUTES_VERSION

log = logger("orchestrator.routes")


class CachedRoutes:
    """The routes as they were last read; asked for their version every `refresh`, and read again when it has changed.

    While the book cannot be read, the routes known last stay in force.
    """

    def __init__(self, book: RouteBook, refresh: timedelta, clock: Clock) -> None:
        self._book = book
        self._refresh_seconds = refresh.total_seconds()
        self._clock = clock
        self._table: RouteTable | None = None
        self._seen_at = clock.monotonic()

    def table(self) -> RouteTable:
        """As `Routes.table`."""
        if self._table is None:
            raise Unavailable("the routes have not been read yet")
        return self._table

    @property
    def age_seconds(self) -> float:
        """Seconds since the routes were last seen to be in force."""
        return self._clock.monotonic() - self._seen_at

    async def refresh(self) -> None:
        """Look whether the routes have changed. Raises `Unavailable`."""
        table = await self._book.read(self._table.version if self._table is not None else None)
        self._seen_at = self._clock.monotonic()
        if table is not None:
            self._table = table
            ROUTES_VERSION.set(table.version)
            log.info("routes_read", version=table.version)

    async def keep_fresh(self, stop: asyncio.Event) -> None:
        """Look again and again until `stop`."""
        backoff = Backoff(longest=self._refresh_seconds)
        while not stop.is_set():
            wait = self._refresh_seconds
            try:
                await self.refresh()
                backoff.reset()
            except ArgosyError as error:
                log.warning("routes_not_read", error=error.message, age_seconds=round(self.age_seconds))
                wait = backoff.next()
            try:
                async with asyncio.timeout(wait):
                    await stop.wait()
            except TimeoutError:
                continue
