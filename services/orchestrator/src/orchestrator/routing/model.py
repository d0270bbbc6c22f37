"""Public model names, and who can answer for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from orchestrator.domain.errors import ModelNotFound

EVERYBODY = "*"
"""Stands for all tenants in a route."""


class Task(StrEnum):
    """What a model can do."""

    CHAT = "chat"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class RouteCandidate:
    """A provider's model that can answer, and the limits it was entered with."""

    upstream: str
    model: str
    max_output_tokens: int = 0
    """The most it can write; what a client gets who sets no limit. 0 for embeddings."""
    limit_field: str = "max_tokens"
    """The field of the body in which this provider takes that limit."""


@dataclass(frozen=True, slots=True)
class Route:
    """A public model name and its candidates, in the order to try them."""

    model: str
    task: Task
    candidates: tuple[RouteCandidate, ...]
    created_at: datetime


class RouteTable:
    """All routes of one version; a tenant's own route overrides the one for everybody."""

    def __init__(self, version: int, routes: Mapping[tuple[str, str], Route]) -> None:
        """`routes` by tenant (or `EVERYBODY`) and public model name."""
        self.version = version
        self._routes = dict(routes)

    def resolve(self, tenant_id: str, model: str, task: Task) -> Route:
        """Return the tenant's route. Raises `ModelNotFound`, also for a model that cannot do `task`."""
        route = self._find(tenant_id, model)
        if route is None:
            raise ModelNotFound(f"the model {model!r} does not exist", param="model")
        if route.task is not task:
            raise ModelNotFound(f"the model {model!r} is for {route.task}, not for {task}", param="model")
        return route

    def visible(self, tenant_id: str) -> list[Route]:
        """Return what the tenant may use, ordered by name."""
        names = {model for owner, model in self._routes if owner in {EVERYBODY, tenant_id}}
        found = (self._find(tenant_id, name) for name in sorted(names))
        return [route for route in found if route is not None]

    def _find(self, tenant_id: str, model: str) -> Route | None:
        route = self._routes.get((tenant_id, model)) or self._routes.get((EVERYBODY, model))
        # A tenant's route without candidates hides the model from that tenant.
        return route if route is not None and route.candidates else None
