"""Public model names, and the upstream models that serve them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from values.usage import BillingUnit

from orchestrator.flags.model import Feature
from orchestrator.routing.policy import (
    ANY_CAPABILITY,
    DEFAULT_POLICY,
    NO_CONDITIONS,
    Capabilities,
    Conditions,
    RoutePolicy,
    Strategy,
)
from orchestrator.workers.model import CandidateRole

MAX_CANDIDATES = 16
"""Of a plan."""

ALL_TENANTS = "*"
"""The tenant of a public route."""


class ModelNotFound(ArgosyError):
    """No route of that name exists for this tenant, or its model cannot do what was asked."""

    kind, reason = Kind.NOT_FOUND, "MODEL_NOT_FOUND"


class RouteNotFound(ArgosyError):
    """There is no such route of this tenant, or of `*`."""

    kind, reason = Kind.NOT_FOUND, "ROUTE_NOT_FOUND"


class RouteVersionConflict(ArgosyError):
    """The route was changed since the version that the request names; read it again."""

    kind, reason = Kind.CONFLICT, "ROUTE_VERSION_CONFLICT"


class NoEligibleCandidate(ArgosyError):
    """No candidate of the model's route can take this request. The message says for each of them why."""

    kind, reason = Kind.INVALID, "NO_ELIGIBLE_CANDIDATE"


class FallbackCycle(ArgosyError):
    """The fallbacks of a route lead back to itself."""

    kind, reason = Kind.INVALID, "FALLBACK_CYCLE"


class UnknownUpstream(ArgosyError):
    """A candidate names an upstream that neither the API has declared nor the settings of the workers have."""

    kind, reason = Kind.INVALID, "UNKNOWN_UPSTREAM"


class UnpricedCandidate(ArgosyError):
    """A candidate has no price: every request to it would be refused."""

    kind, reason = Kind.INVALID, "UNPRICED_CANDIDATE"


class Task(StrEnum):
    """What a model can do."""

    CHAT = "chat"
    EMBEDDING = "embedding"
    RERANK = "rerank"


TASK_TO_FEATURE = {Task.CHAT: Feature.CHAT, Task.EMBEDDING: Feature.EMBEDDINGS, Task.RERANK: Feature.RERANK}
"""What a switch names to turn a task off."""


class UnknownFields(StrEnum):
    """What happens to fields of a request that no table knows."""

    DROP = "drop"
    """They are left out, and a warning says so."""
    PASS = "pass"  # noqa: S105 - not a password
    """The upstream gets them: for upstreams that are the operator's own."""


class Provider(StrEnum):
    """Whose API, and whose token rules for images and sound, a candidate has."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


@dataclass(frozen=True, slots=True)
class RouteCandidate:
    """An upstream model that can serve a route, with its output limit."""

    upstream: str
    model: str
    max_output_tokens: int = 0
    """The most that one answer can have, and the limit of a request without one. 0 for embeddings and scores."""
    limit_field: str = "max_tokens"
    """The field of the request body in which this upstream takes the output limit."""
    unknown_fields: UnknownFields | None = None
    """None for what the settings say."""
    provider: Provider | None = None
    """None for one that is not known: the most expensive rule counts."""
    role: CandidateRole = CandidateRole.PRIMARY
    weight: int = 100
    """Its share of the requests among its priority group, relative to the others'. 0 is tried last."""
    priority: int = 0
    """Groups are tried in ascending order."""
    conditions: Conditions = NO_CONDITIONS
    capabilities: Capabilities = ANY_CAPABILITY
    billing_unit: BillingUnit = BillingUnit.TOKENS
    """Of scores: what its price is for a million of."""

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
    """First those of the role primary, then the fallbacks."""
    created_at: datetime
    policy: RoutePolicy = DEFAULT_POLICY
    fixed_up_to: int = field(init=False, repr=False, compare=False)
    """Up to this output limit every request gets the candidates as they stand; -1 where more of it matters."""

    def __post_init__(self) -> None:
        # Here, not per request: most routes ask nothing of a request.
        fixed = min((one.max_output_tokens for one in self.candidates), default=-1) if _is_fixed(self) else -1
        object.__setattr__(self, "fixed_up_to", fixed)


def _is_fixed(route: Route) -> bool:
    """Tell whether `choose` gives all candidates, as they stand, to requests of any kind."""
    candidates = route.candidates
    primary = [one for one in candidates if one.role is CandidateRole.PRIMARY]
    if not primary or len(candidates) > MAX_CANDIDATES or route.policy.right_sizing is not None:
        return False
    if len(primary) > 1 and route.policy.strategy is not Strategy.ORDERED:
        return False
    if not all(one.conditions == NO_CONDITIONS and one.capabilities.unlimited for one in candidates):
        return False
    return list(candidates) == sorted(candidates, key=_place)


def _place(one: RouteCandidate) -> tuple[int, int]:
    primary = one.role is CandidateRole.PRIMARY
    return _ROLES_IN_ORDER.index(one.role), one.priority if primary else 0


_ROLES_IN_ORDER = (CandidateRole.PRIMARY, CandidateRole.CONTEXT_OVERFLOW, CandidateRole.CONTENT_POLICY)


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """A route as an operator writes it, for one tenant or for `ALL_TENANTS`."""

    tenant_id: str
    model: str
    task: Task
    candidates: tuple[RouteCandidate, ...]
    policy: RoutePolicy = DEFAULT_POLICY

    def to_route(self, created_at: datetime) -> Route:
        return Route(self.model, self.task, self.candidates, created_at, self.policy)


@dataclass(frozen=True, slots=True)
class StoredRoute:
    """A route as it is kept, and its last change."""

    entry: RouteEntry
    version: int
    """Of the configuration; 0 for a route that was written before versions were kept."""
    created_at: datetime
