"""Chooses the route of a request, from a table of all routes that is kept in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from chassis.clock import Clock
from chassis.errors import Unavailable

from orchestrator.configuration.model import Edit
from orchestrator.routing.model import ALL_TENANTS, ModelNotFound, Route, RouteEntry, StoredRoute, Task
from orchestrator.routing.order import Measures
from orchestrator.routing.policy import ANY_CAPABILITY, Capabilities
from orchestrator.routing.prices import LearnedPrices
from orchestrator.routing.scores import Scores


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

    def owned(self, tenant_id: str, model: str) -> tuple[str, Route]:
        """Return the tenant's route, and whose it is. Raises `ModelNotFound`."""
        route = self._find(tenant_id, model)
        if route is None:
            raise ModelNotFound(f"the model {model!r} does not exist", param="model")
        return tenant_id if route is self._routes.get((tenant_id, model)) else ALL_TENANTS, route

    def visible(self, tenant_id: str) -> list[Route]:
        """Return the routes that the tenant may use, ordered by name."""
        names = {model for owner, model in self._routes if owner in {ALL_TENANTS, tenant_id}}
        found = (self._find(tenant_id, name) for name in sorted(names))
        return [route for route in found if route is not None]

    def with_capabilities(self, by_upstream: Mapping[str, Capabilities]) -> RouteTable:
        """Return the same routes whose candidates can what their upstreams can, unless they say otherwise."""
        if not by_upstream:
            return self
        return RouteTable(self.version, {key: _capable(route, by_upstream) for key, route in self._routes.items()})

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


def _capable(route: Route, by_upstream: Mapping[str, Capabilities]) -> Route:
    candidates = tuple(
        replace(one, capabilities=one.capabilities.or_else(by_upstream.get(one.upstream, ANY_CAPABILITY)))
        for one in route.candidates
    )
    return replace(route, candidates=candidates)


class RouteCache:
    """The routes as last read. They stay in force while the store is unavailable."""

    def __init__(self, store: RouteStore, clock: Clock, table: RouteTable | None = None) -> None:
        """`table` holds the routes until the first refresh."""
        self._store = store
        self._clock = clock
        self._read = self._table = table
        self._capabilities: Mapping[str, Capabilities] = {}
        self._confirmed_at = clock.monotonic()
        self.prices = LearnedPrices()
        self.scores = Scores(clock)
        self.measures = Measures(self.prices.cost, self.scores.delay)

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
        self._read, self._table = table, table.with_capabilities(self._capabilities)
        return True

    def set_capabilities(self, by_upstream: Mapping[str, Capabilities]) -> None:
        """Let candidates have the capabilities of their upstreams, unless they say otherwise."""
        self._capabilities = by_upstream
        self._table = None if self._read is None else self._read.with_capabilities(by_upstream)


ChangeRoute = Callable[[StoredRoute | None], RouteEntry | None]
"""Makes of a route as it is what it shall be; None is none. What it raises leaves everything as it is."""


class RouteStore(Protocol):
    """Storage of routes. All methods raise `Unavailable`.

    Each change is one transaction, which logs it, and is safe to repeat.
    """

    async def read(self, known_version: int | None) -> RouteTable | None:
        """Return all routes, or None when `known_version` is still the current one."""

    async def edit(self, tenant_id: str, model: str, edit: Edit, change: ChangeRoute) -> StoredRoute | None:
        """Change the tenant's route of that name; others wait for its end."""

    async def find(self, tenant_id: str, model: str) -> StoredRoute | None:
        """Return the tenant's own route."""

    async def stored(self, tenant_id: str | None) -> Sequence[StoredRoute]:
        """Return a tenant's own routes, or those of all tenants, ordered by model and tenant."""

    async def put(self, entry: RouteEntry) -> None:
        """Create the tenant's route of that name, or replace it, as the command line."""

    async def remove(self, tenant_id: str, model: str) -> bool:
        """Remove the tenant's own route, as the command line; return whether it existed."""

    async def entries(self, tenant_id: str | None) -> Sequence[RouteEntry]:
        """Return a tenant's own routes, or those of all tenants, ordered by model and tenant."""


COMMAND_LINE: Final = Edit("python -m orchestrator route")


class RouteCommands(ABC):
    """What the command line does, by `edit` and `stored`."""

    @abstractmethod
    async def edit(self, tenant_id: str, model: str, edit: Edit, change: ChangeRoute) -> StoredRoute | None: ...

    @abstractmethod
    async def stored(self, tenant_id: str | None) -> Sequence[StoredRoute]: ...

    async def put(self, entry: RouteEntry) -> None:
        await self.edit(entry.tenant_id, entry.model, COMMAND_LINE, lambda _: entry)

    async def remove(self, tenant_id: str, model: str) -> bool:
        found: list[StoredRoute] = []

        def change(stored: StoredRoute | None) -> None:
            found.extend([] if stored is None else [stored])

        await self.edit(tenant_id, model, COMMAND_LINE, change)
        return bool(found)

    async def entries(self, tenant_id: str | None) -> list[RouteEntry]:
        return [stored.entry for stored in await self.stored(tenant_id)]
