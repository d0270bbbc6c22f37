"""The port of the routing feature."""

from collections.abc import Sequence
from typing import Protocol

from orchestrator.routing.choose import RouteTable
from orchestrator.routing.model import RouteEntry


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
