"""Chooses the route of a request."""

from collections.abc import Mapping

from orchestrator.routing.model import ALL_TENANTS, ModelNotFound, Route, Task


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

    def _find(self, tenant_id: str, model: str) -> Route | None:
        route = self._routes.get((tenant_id, model)) or self._routes.get((ALL_TENANTS, model))
        # A tenant's route without candidates hides the model from that tenant.
        return route if route is not None and route.candidates else None
