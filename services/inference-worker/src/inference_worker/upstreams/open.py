"""Opens what snapshots declare: upstreams by their documents, credentials by the keys of the settings."""

from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

from chassis.clock import Clock
from chassis.sealing import KeyRing, SealUnreadable
from chassis.telemetry import logger
from pydantic import Field, TypeAdapter, ValidationError

from inference_worker.providers.anthropic.config import AnthropicConfig
from inference_worker.providers.credentials import Credential, SealedCredential
from inference_worker.providers.litellm import LitellmConfig
from inference_worker.providers.openai.config import OpenaiConfig
from inference_worker.providers.ports import Upstream
from inference_worker.providers.rerankers.config import CohereConfig, JinaConfig, TeiConfig, VoyageConfig
from inference_worker.providers.sealed import open_sealed
from inference_worker.upstreams.model import UpstreamDocument

log = logger(__name__)

DeclaredConfig = Annotated[
    OpenaiConfig | AnthropicConfig | LitellmConfig | CohereConfig | JinaConfig | VoyageConfig | TeiConfig,
    Field(discriminator="kind"),
]

_CONFIG: Final[TypeAdapter[Any]] = TypeAdapter(DeclaredConfig)
_FIELDS: Final = frozenset(
    {
        *("kind", "base_url", "encoding", "shares_prompt_cache", "tenant_cache_field", "max_connections"),
        *("max_response_bytes", "version", "litellm_provider", "max_documents_per_call"),
    }
)
_SECONDS: Final = {"connect_timeout_seconds": "connect_timeout", "keep_alive_seconds": "keep_alive"}


class Opener:
    """Logs what it cannot open, and returns None: the rest of the snapshot is put in force without it."""

    def __init__(self, ring: KeyRing, clock: Clock, *, allow_link_local: bool) -> None:
        """The ring unwraps the data keys of credentials."""
        self._ring = ring
        self._clock = clock
        self._allow_link_local = allow_link_local

    async def open(self, declared: UpstreamDocument, stack: AsyncExitStack) -> Upstream | None:
        """Open an upstream; `stack` closes what it holds."""
        try:
            config = document_to_config(declared, allow_link_local=self._allow_link_local)
            return config.isolate(await config.open(self._clock, stack))
        except (ValueError, OSError) as error:
            log.warning("upstream_not_opened", upstream=declared.name, error=str(error))
            return None

    def unseal(self, row: SealedCredential) -> Credential | None:
        """Open a credential."""
        try:
            return open_sealed(self._ring, row)
        except SealUnreadable as error:
            where = {"upstream": row.upstream, "credential": row.credential_id, "tenant": row.tenant_id}
            log.warning("credential_unreadable", **where, error=error.message)
            return None


def document_to_config(declared: UpstreamDocument, *, allow_link_local: bool) -> DeclaredConfig:
    """Raises `ValueError` for a document that this version cannot read. What it does not know is left out."""
    document = declared.document
    fields = {name: value for name, value in document.items() if name in _FIELDS and value is not None}
    fields |= {field: document[name] for name, field in _SECONDS.items() if name in document}
    if "encoding" in document:
        fields["encoding"] = document["encoding"]
    if document.get("kind") != "litellm":
        fields["refuse_link_local"] = not allow_link_local
    try:
        config: DeclaredConfig = _CONFIG.validate_python(fields)
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, one["loc"][1:])) or "kind" for one in error.errors(include_url=False))
        raise ValueError(f"the upstream {declared.name!r} cannot be read: {wrong}") from None
    return config
