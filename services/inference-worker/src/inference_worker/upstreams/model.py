"""What the orchestrator tells workers of upstreams."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from inference_worker.providers.credentials import ALL_TENANTS, Credential, SealedCredential

NO_CREDENTIALS: Final[tuple[Credential, ...]] = ()


@dataclass(frozen=True, slots=True)
class UpstreamDocument:
    """An upstream as an operator declared it. Equal documents are the same upstream."""

    name: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UpstreamSnapshot:
    """All upstreams and enabled credentials of one version."""

    version: int
    upstreams: tuple[UpstreamDocument, ...]
    credentials: tuple[SealedCredential, ...]


class UpstreamSource(Protocol):
    """Where snapshots come from."""

    async def wait_newer(self, known_version: int | None) -> UpstreamSnapshot | None:
        """Wait for a version above the known one; None when there is none for a while.

        Raises what a peer raises: Unavailable, RemoteError, DeadlineExceeded.
        """
        ...


class ManagedCredentials:
    """Implements `Credentials`: what the last snapshot has for one upstream."""

    def __init__(self) -> None:
        self._by_tenant: Mapping[str, tuple[Credential, ...]] = {}

    def replace(self, by_tenant: Mapping[str, tuple[Credential, ...]]) -> None:
        self._by_tenant = by_tenant

    def of(self, tenant_id: str) -> tuple[Credential, ...]:
        own = self._by_tenant.get(tenant_id)
        return own or self._by_tenant.get(ALL_TENANTS, NO_CREDENTIALS)
