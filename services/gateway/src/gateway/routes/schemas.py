"""Routes as the API takes and shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from values.limits import MAX_MODEL_NAME_CHARACTERS

from gateway.flags.schemas import MAX_VERSION, Reason
from gateway.inference.model import Task
from gateway.upstreams.schemas import TenantOrAll, UpstreamCapabilities, UpstreamName
from gateway.web.schemas import Id, Name, OptionalName, StrictBody

ModelName = Annotated[
    str, Field(max_length=MAX_MODEL_NAME_CHARACTERS, pattern=r"^[^\x00-\x20\x7f]+$", description="The public name.")
]
Names = Annotated[list[Name], Field(max_length=100)]
PriceKeys = Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=16)]


class RouteConditions(StrictBody):
    """Which requests a candidate is for. Empty lists match all."""

    plans: Names = Field(default_factory=list)
    countries: list[Annotated[str, Field(pattern=r"^[A-Z]{2}$")]] = Field(
        default_factory=list, max_length=250, description="ISO 3166 codes; the client's `argosy.metadata.country`."
    )
    tags: dict[str, Names] = Field(
        default_factory=dict, description="Names of `argosy.metadata`, and the values that match. All names have to."
    )


class RouteCandidate(StrictBody):
    """A model of an upstream."""

    upstream: UpstreamName
    model: Annotated[str, Field(max_length=MAX_MODEL_NAME_CHARACTERS, pattern=r"^[^\x00-\x20\x7f]+$")]
    max_output_tokens: int = Field(
        4096, ge=0, le=10_000_000, description="0 for embeddings and scores, which write none."
    )
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    unknown_fields: Literal["drop", "pass"] | None = Field(
        None, description="null: as the orchestrator's settings say."
    )
    provider: Literal["openai", "anthropic", "gemini"] | None = Field(
        None, description="Whose fields and token rules hold. null: the most expensive of all."
    )
    weight: int = Field(100, ge=0, le=1_000_000, description="Of `weighted`; 0 is tried last.")
    priority: int = Field(0, ge=0, le=1_000, description="Groups are tried in ascending order.")
    conditions: RouteConditions = Field(default_factory=RouteConditions)
    capabilities: UpstreamCapabilities = Field(
        default_factory=UpstreamCapabilities, description="What is null is as the upstream says."
    )
    billing_unit: Literal["tokens", "search_units"] = Field(
        "tokens",
        description="Of the task `rerank`: what the price is for a million of. `search_units` are what Cohere bills.",
    )


class RouteFallbacks(StrictBody):
    """Candidates that are only tried after a refusal for this reason."""

    context_overflow: list[RouteCandidate] = Field(default_factory=list, max_length=15)
    content_policy: list[RouteCandidate] = Field(default_factory=list, max_length=15)


class RouteCachePolicy(StrictBody):
    """Whether answers are cached, and what a hit costs."""

    disabled: bool = Field(
        False, description="No request of the route uses the cache, whatever it asks for and the settings say."
    )
    exact: bool = Field(
        False, description="For all requests that do not turn it off. Without it, the orchestrator's settings hold."
    )
    semantic: bool = Field(
        False,
        description="With `exact`: prompts that mean the same may share an answer, if all else is equal.",
    )
    ttl_seconds: int = Field(3_600, ge=1, le=2_592_000)
    threshold: float = Field(
        0.95, ge=0.01, le=1, description="Of `semantic`: the least cosine similarity of two prompts."
    )
    stale_if_error_seconds: int = Field(0, ge=0, le=2_592_000)
    charge: Literal["free", "discounted", "full"] = "free"
    discount_percent: int = Field(50, ge=0, le=100)


class RouteRetry(StrictBody):
    """How often providers are called for one request."""

    max_attempts: int | None = Field(None, ge=1, le=16)


class RouteRightSizing(StrictBody):
    """Sends easy requests to cheap candidates first."""

    cheap: PriceKeys = Field(min_length=1, description="`upstream/model` of candidates of this route.")
    max_input_bytes: int = Field(2_000, ge=1, le=1_000_000_000)
    allow_tools: bool = False
    allow_json_schema: bool = True
    hard_words: Names = Field(default_factory=list)
    easy_words: Names = Field(default_factory=list)


class RouteDocument(StrictBody):
    """A route; what is left out has its default."""

    task: Task = Task.CHAT
    strategy: Literal["ordered", "weighted", "cheapest", "fastest"] = "ordered"
    sticky: bool = Field(False, description="Keep a conversation at one candidate, for its provider's prompt cache.")
    candidates: list[RouteCandidate] = Field(
        max_length=16, description="Only a tenant's own route may have none, which hides the model from it."
    )
    fallbacks: RouteFallbacks = Field(default_factory=RouteFallbacks)
    cache: RouteCachePolicy = Field(default_factory=RouteCachePolicy)
    retry: RouteRetry = Field(default_factory=RouteRetry)
    right_sizing: RouteRightSizing | None = None


class RoutePut(RouteDocument):
    """A route, and why."""

    reason: Reason
    tenant_id: TenantOrAll = Field("*", description="For this tenant alone; `*` for all.")
    version: int | None = Field(
        None,
        ge=0,
        le=MAX_VERSION,
        description="Refuse unless the route has it. 0: only create. null: replace.",
    )


class RouteRead(RouteDocument):
    """A route as it is now."""

    object: Literal["route"] = "route"
    model: str
    tenant_id: str
    version: int = Field(description="The version of the configuration with its last change; 0: before they were kept.")
    created_at: int


class RouteList(BaseModel):
    """Routes, by model and tenant."""

    object: Literal["list"] = "list"
    data: list[RouteRead]


class RouteRollback(StrictBody):
    """The version to go back to."""

    reason: Reason
    tenant_id: TenantOrAll = "*"
    version: int = Field(ge=0, le=MAX_VERSION, description="Of the configuration.")


class RouteResolve(StrictBody):
    """A request that is not made."""

    tenant_id: Id
    model: ModelName
    plan: OptionalName | None = Field(None, description="The tenant's own by default.")
    body: dict[str, Any] | None = Field(None, description="Of a chat completion; a short text by default.")
    stream: bool = False
    request_id: str = Field(
        "", max_length=128, pattern=r"^[!-~]*$", description="What a draw by weights depends on; made up by default."
    )
    route: RouteDocument | None = Field(None, description="A route to try instead of the one in force.")


class ResolvedCandidate(BaseModel):
    """A candidate, and why it stands where it does."""

    upstream: str
    model: str
    role: Literal["primary", "context_overflow", "content_policy"]
    position: int | None = Field(description="From 1, in the order of the plan. null: it is passed over.")
    code: str
    reason: str
    priced: bool = Field(description="A request with a candidate without a price is refused.")


class RouteResolution(BaseModel):
    """What would happen to the request."""

    object: Literal["route.resolution"] = "route.resolution"
    model: str
    tenant_id: str = Field(description="Whose route it is; `*` for the public one.")
    task: Task
    candidates: list[ResolvedCandidate]
    flags: dict[str, str] = Field(description="The feature flags that were evaluated, and their variants.")
