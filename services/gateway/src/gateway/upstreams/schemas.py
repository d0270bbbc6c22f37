"""Upstreams and credentials as the API takes and shows them. No response has a secret."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr
from values.limits import MAX_CHAT_BYTES, MAX_RERANK_DOCUMENTS

from gateway.flags.schemas import MAX_VERSION, Reason
from gateway.web.schemas import StrictBody

SECRET_MIN_LENGTH, SECRET_MAX_LENGTH = 8, 4_096
UpstreamName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$",
        description="As candidates of routes name it, and as it stands in price keys before the slash.",
    ),
]
TenantOrAll = Annotated[
    str, Field(pattern=r"^(\*|[A-Za-z0-9_.:-]{1,128})$", description="A tenant, or `*` for the house's credentials.")
]
Label = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Weight = Annotated[int, Field(strict=True, ge=1, le=1_000, description="Its share of the calls, relative to others'.")]
Kind = Literal["openai", "anthropic", "litellm", "cohere", "jina", "voyage", "tei"]


class UpstreamCapabilities(StrictBody):
    """What its models can take, unless a route's candidate says otherwise. null: not known, and then assumed."""

    tools: bool | None = None
    vision: bool | None = None
    audio: bool | None = None
    json_schema: bool | None = None
    context_tokens: int | None = Field(None, ge=1, le=1_000_000_000)


class UpstreamDocument(StrictBody):
    """An upstream. Fields that are left out have the defaults of its kind."""

    kind: Kind = Field(
        description="Its API: OpenAI's, Anthropic's, any other through litellm, or one that only scores documents."
    )
    base_url: str | None = Field(
        None,
        max_length=2_000,
        description="Address of the API, without the path of the call. Private networks are allowed; link-local "
        "addresses and metadata services are not. `litellm` has a default.",
    )
    description: str = Field("", max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")
    requires_credential: bool = Field(
        True,
        description="Whether it is not called without a credential in force: false for models of your own that need "
        "none.",
    )
    version_header: str | None = Field(None, max_length=64, description="`anthropic`: sent as `anthropic-version`.")
    litellm_provider: str | None = Field(None, max_length=64, description="`litellm`: its name of the provider.")
    encoding: Literal["cl100k_base", "o200k_base", "p50k_base"] | None = Field(
        "cl100k_base",
        description="With which tokens are counted that it does not report. null: such usage stays unknown.",
    )
    shares_prompt_cache: bool = Field(
        True, description="Whether one tenant may be answered faster for what another has asked."
    )
    tenant_cache_field: Literal["prompt_cache_key", "cache_salt"] | None = Field(
        None, description="Field by which it keeps prompt caches of tenants apart."
    )
    connect_timeout_seconds: float = Field(5, ge=0.1, le=60, description="Not of `litellm`, as the next three.")
    keep_alive_seconds: float = Field(4, ge=0, le=600)
    max_connections: int = Field(4096, ge=1, le=65_536, description="Calls at once, in each worker.")
    max_response_bytes: int = Field(8 * 1024 * 1024, ge=1024, le=MAX_CHAT_BYTES)
    max_documents_per_call: int | None = Field(
        None, ge=1, le=MAX_RERANK_DOCUMENTS, description="`tei`: what it takes at once; 32 by default."
    )
    capabilities: UpstreamCapabilities = Field(default_factory=UpstreamCapabilities)


class UpstreamPut(UpstreamDocument):
    """An upstream, and why."""

    reason: Reason
    version: int | None = Field(
        None,
        ge=0,
        le=MAX_VERSION,
        description="Refuse unless it is the upstream's version. 0: only create. null: replace.",
    )


class UpstreamRead(BaseModel):
    """An upstream as it is now. A field is null that its kind does not have."""

    object: Literal["upstream"] = "upstream"
    name: str
    version: int = Field(description="The version of the configuration that has its last change.")
    updated_at: int
    kind: Kind
    base_url: str | None = None
    description: str = ""
    requires_credential: bool = True
    version_header: str | None = None
    litellm_provider: str | None = None
    encoding: str | None = None
    shares_prompt_cache: bool = True
    tenant_cache_field: str | None = None
    connect_timeout_seconds: float | None = None
    keep_alive_seconds: float | None = None
    max_connections: int | None = None
    max_response_bytes: int | None = None
    max_documents_per_call: int | None = None
    capabilities: UpstreamCapabilities


class UpstreamList(BaseModel):
    """All upstreams that the API has declared, by name."""

    object: Literal["list"] = "list"
    data: list[UpstreamRead]


class CredentialCreate(StrictBody):
    """A credential. Its secret is sealed at once; no call returns it."""

    reason: Reason
    secret: SecretStr = Field(
        min_length=SECRET_MIN_LENGTH,
        max_length=SECRET_MAX_LENGTH,
        description="What the provider gave you, such as `sk-…`.",
    )
    tenant_id: TenantOrAll = Field("*", description="Who brought it; `*`: for all tenants without one of their own.")
    label: Label = ""
    weight: Weight = 1


class CredentialPatch(StrictBody):
    """What to change of a credential; to change its secret, add another one and delete this one."""

    reason: Reason
    tenant_id: TenantOrAll = "*"
    enabled: bool | None = None
    label: Label | None = None
    weight: Weight | None = None


class CredentialRead(BaseModel):
    """A credential without its secret."""

    object: Literal["credential"] = "credential"
    id: str
    upstream: str
    tenant_id: str
    label: str
    weight: int
    enabled: bool
    created_at: int


class CredentialList(BaseModel):
    """Credentials of an upstream, by tenant and id."""

    object: Literal["list"] = "list"
    data: list[CredentialRead]


class Shred(StrictBody):
    """Whose credentials to make unreadable for ever."""

    reason: Reason
    tenant_id: TenantOrAll


class Shredded(BaseModel):
    """How many credentials there were."""

    object: Literal["credentials.shredded"] = "credentials.shredded"
    tenant_id: str
    deleted: int


UpstreamStatus = Literal["up", "degraded", "down", "unused"]
UpstreamCircuitState = Literal["closed", "open", "half_open"]


class UpstreamCircuit(BaseModel):
    """Whether calls of one model with one credential are made."""

    credential_id: str = Field(description="`default` for what stands in the workers' settings.")
    model: str = Field(description="The upstream's name of it.")
    state: UpstreamCircuitState = Field(
        description="`closed`: calls are made. `open`: none, after failures. `half_open`: one, whose outcome decides."
    )
    probe_in_seconds: float = Field(description="Until the next call of an open one; 0 when a request may make it.")
    rests_seconds: float = Field(description="How long the upstream has asked to wait for this model.")
    credential_rests_seconds: float = Field(
        description="How long the credential is not used, because it was refused or its account is empty."
    )
    calls: int = Field(description="Of the last 5 to 10 seconds, in the worker that answers.")
    failures: int = Field(description="Those that failed.")
    slow: int = Field(description="Those whose first byte was slow.")
    only_tenant_id: str | None = Field(
        description="The tenant for which alone it is not closed, because only its calls have failed; null: for all."
    )


class UpstreamHealth(BaseModel):
    """What a worker knows of an upstream now."""

    name: str
    status: UpstreamStatus = Field(
        description="`up`: all its circuits are closed and none rests. `degraded`: some. `down`: none. `unused`: no "
        "model was called since the worker has started."
    )
    circuits: list[UpstreamCircuit] = Field(description="At most 100, those with faults first.")
    left_out: int = Field(description="How many there are besides.")
