"""Upstreams, their credentials without secrets, and what workers get of both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from chassis.errors import ArgosyError, Kind

ALL_TENANTS: Final = "*"
"""Of the house's credentials: they are for every tenant that has none of its own."""


class UpstreamNotFound(ArgosyError):
    """There is no upstream of that name that was declared by the API. Those of the workers' settings are not listed."""

    kind, reason = Kind.NOT_FOUND, "UPSTREAM_NOT_FOUND"


class UpstreamVersionConflict(ArgosyError):
    """The upstream was changed since the version that the request names; read it again."""

    kind, reason = Kind.CONFLICT, "UPSTREAM_VERSION_CONFLICT"


class UpstreamInUse(ArgosyError):
    """A route has candidates of this upstream; the message names it. Change the route first."""

    kind, reason = Kind.CONFLICT, "UPSTREAM_IN_USE"


class UpstreamAddressNotAllowed(ArgosyError):
    """The address belongs to a metadata service or to this machine's link, which no provider does."""

    kind, reason = Kind.INVALID, "UPSTREAM_ADDRESS_NOT_ALLOWED"


class CredentialNotFound(ArgosyError):
    """The upstream has no such credential of this tenant."""

    kind, reason = Kind.NOT_FOUND, "CREDENTIAL_NOT_FOUND"


class CredentialsNotConfigured(ArgosyError):
    """No key is configured to seal credentials with: set ORCHESTRATOR_UPSTREAMS__CREDENTIAL_KEYS."""

    kind, reason = Kind.CONFLICT, "CREDENTIALS_NOT_CONFIGURED"


class UpstreamKind(StrEnum):
    """How an upstream is called; the inference worker has one adapter for each."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    LITELLM = "litellm"
    COHERE = "cohere"
    """It only scores documents, as the next three."""
    JINA = "jina"
    VOYAGE = "voyage"
    TEI = "tei"


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream as an operator declares it. Workers read `document`; a kind has more in it than others."""

    name: str
    document: Mapping[str, Any]

    @property
    def kind(self) -> UpstreamKind:
        return UpstreamKind(self.document["kind"])


@dataclass(frozen=True, slots=True)
class StoredUpstream:
    """An upstream, and its last change."""

    upstream: Upstream
    version: int
    """The version of the configuration that has it."""
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class CredentialKey:
    """Which credential."""

    tenant_id: str
    upstream: str
    credential_id: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential without its secret."""

    key: CredentialKey
    label: str
    weight: int
    enabled: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SealedCredential:
    """A credential as workers get it."""

    key: CredentialKey
    sealed: bytes = field(repr=False)
    weight: int


@dataclass(frozen=True, slots=True)
class UpstreamSnapshot:
    """All upstreams, wrapped data keys by tenant, and enabled credentials."""

    version: int
    upstreams: tuple[Upstream, ...]
    data_keys: Mapping[str, bytes] = field(repr=False)
    credentials: tuple[SealedCredential, ...]
