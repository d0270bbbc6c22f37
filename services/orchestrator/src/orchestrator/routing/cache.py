"""Routes in memory."""

from chassis.clock import Clock
from chassis.errors import Unavailable

from orchestrator.routing.choose import RouteTable
from orchestrator.routing.ports import RouteStore


class RouteCache:
    """The routes as last read. They stay in force while the store is unavailable."""

    def __init__(self, store: RouteStore, clock: Clock, table: RouteTable | None = None) -> None:
        """`table` holds the routes until the first refresh."""
        self._store = store
        self._clock = clock
        self._table = table
        self._confirmed_at = clock.monotonic()

    def table(self) -> RouteTable:
        """Return the routes without waiting. Raises `Unavailable` before the first successful refresh."""
        if self._table is None:
            raise Unavailable("the routes have not been read yet")
        return self._table

    @property
    def age_seconds(self) -> float:
        """Seconds since the store confirmed that the routes are current."""
        return self._clock.monotonic() - self._confirmed_at

    async def refresh(self) -> bool:
        """Read the routes if their version has changed; return whether it has. Raises `Unavailable`."""
        table = await self._store.read(None if self._table is None else self._table.version)
        self._confirmed_at = self._clock.monotonic()
        if table is None:
            return False
        self._table = table
        return True
