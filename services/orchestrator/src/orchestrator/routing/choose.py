"""Chooses the route of a request, from a table of all routes that is kept in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from chassis.clock import Clock
from chassis.errors import Unavailable

from orchestrator.routing.model import ALL_TENANTS, ModelNotFound, Route, RouteEntry, Task
from orchestrator.routing.prices import LearnedPrices


class RouteTable:
    """All routes of one version. A tenant's own route overrides the public one."""

    def __init__(self, version: int, routes: Mapping[tuple[str, str], Route]) -> None:
        """`routes` by tenant (or `ALL_TENANTS`) and public model name."""
        self.version = version
        self._routes = dict(routes)

    def resolve(self, tenant_id: str, model: str, task: Task) -> Route:
        """Return the tenant's route. Raises `ModelNotFound`, also when the model cannot do `task`."""
        route = self._find(tenant_id, model)
        if route is None:
            raise ModelNotFound(f"the model {model!r} does not exist", param="model")
        if route.task is not task:
            raise ModelNotFound(f"the model {model!r} is for {route.task}, not for {task}", param="model")
        return route

    def visible(self, tenant_id: str) -> list[Route]:
        """Return the routes that the tenant may use, ordered by name."""
        names = {model for owner, model in self._routes if owner in {ALL_TENANTS, tenant_id}}
        found = (self._find(tenant_id, name) for name in sorted(names))
        return [route for route in found if route is not None]

    def models(self) -> set[str]:
        """Return the names of the routes of all tenants."""
        return {model for _, model in self._routes}

    def upstreams(self) -> set[str]:
        """Return the upstreams of all candidates."""
        return {candidate.upstream for route in self._routes.values() for candidate in route.candidates}

    def _find(self, tenant_id: str, model: str) -> Route | None:
        route = self._routes.get((tenant_id, model)) or self._routes.get((ALL_TENANTS, model))
        # A tenant's route without candidates hides the model from that tenant.
        return route if route is not None and route.candidates else None


class RouteCache:
    """The routes as last read. They stay in force while the store is unavailable."""

    def __init__(self, store: RouteStore, clock: Clock, table: RouteTable | None = None) -> None:
        """`table` holds the routes until the first refresh."""
        self._store = store
        self._clock = clock
        self._table = table
        self._confirmed_at = clock.monotonic()
        self.prices = LearnedPrices()

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


class RouteStore(Protocol):
    """Storage of routes. All methods raise `Unavailable`.

    Each change is atomic and safe to repeat, and raises `PermissionDenied` for a role that may not change routes.
    """

    async def read(self, known_version: int | None) -> RouteTable | None:
        """Return all routes, or None when `known_version` is still the current one."""

    async def put(self, entry: RouteEntry) -> None:
        """Create the tenant's route of that name, or replace it."""

    async def remove(self, tenant_id: str, model: str) -> bool:
        """Remove the tenant's own route; return whether it existed."""

    async def entries(self, tenant_id: str | None) -> Sequence[RouteEntry]:
        """Return a tenant's own routes, or those of all tenants, ordered by model and tenant."""
