"""Public model names, and the upstream models that serve them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.errors import ArgosyError, Kind

ALL_TENANTS = "*"
"""The tenant of a public route."""


class ModelNotFound(ArgosyError):
    """No route of that name exists for this tenant, or its model cannot do what was asked."""

    kind, reason = Kind.NOT_FOUND, "MODEL_NOT_FOUND"


class Task(StrEnum):
    """What a model can do."""

    CHAT = "chat"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class RouteCandidate:
    """An upstream model that can serve a route, with its output limit."""

    upstream: str
    model: str
    max_output_tokens: int = 0
    """The most that one answer can have, and the limit of a request without one. 0 for embeddings."""
    limit_field: str = "max_tokens"
    """The field of the request body in which this upstream takes the output limit."""

    @property
    def price_key(self) -> str:
        """The key of its price in the price book."""
        return f"{self.upstream}/{self.model}"


@dataclass(frozen=True, slots=True)
class Route:
    """A public model name and its candidates, in the order to try them."""

    model: str
    task: Task
    candidates: tuple[RouteCandidate, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """A route as an operator writes it, for one tenant or for `ALL_TENANTS`."""

    tenant_id: str
    model: str
    task: Task
    candidates: tuple[RouteCandidate, ...]
