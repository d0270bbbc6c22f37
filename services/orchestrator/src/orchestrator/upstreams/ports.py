"""The ports of upstreams."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from orchestrator.configuration.model import Edit
from orchestrator.upstreams.model import (
    Credential,
    CredentialKey,
    StoredUpstream,
    Upstream,
    UpstreamSnapshot,
)

ChangeUpstream = Callable[[StoredUpstream | None], Upstream | None]
"""Makes of an upstream as it is what it shall be; None is none. What it raises leaves everything as it is."""

ChangeCredential = Callable[[Credential], Credential | None]
"""The same for a credential; its key stays."""


class UpstreamReader(Protocol):
    """Reads what workers get."""

    async def read(self, known_version: int | None) -> UpstreamSnapshot | None:
        """Return everything, or None when `known_version` is still the current one. Raises Unavailable."""
        ...


class UpstreamStore(UpstreamReader, Protocol):
    """Keeps upstreams and sealed credentials. Each change is one transaction, which logs it. Raises Unavailable."""

    async def find(self, name: str) -> StoredUpstream | None: ...

    async def list(self) -> Sequence[StoredUpstream]:
        """All upstreams, by name."""
        ...

    async def edit(self, name: str, edit: Edit, change: ChangeUpstream) -> StoredUpstream | None:
        """Change an upstream; one that is removed takes its credentials along.

        Raises UpstreamInUse for one that a route needs.
        """
        ...

    async def credentials(self, upstream: str, tenant_id: str) -> Sequence[Credential]:
        """Credentials of an upstream, by tenant and id; `tenant_id` may be empty for all."""
        ...

    async def add_credential(self, credential: Credential, secret: str, edit: Edit) -> Credential:
        """Seal a credential with its tenant's data key, which is made when there is none.

        Raises UpstreamNotFound, CredentialsNotConfigured; SealUnreadable when the data key cannot be opened.
        """
        ...

    async def edit_credential(self, key: CredentialKey, edit: Edit, change: ChangeCredential) -> Credential | None:
        """Change or delete a credential. Raises CredentialNotFound."""
        ...

    async def shred(self, tenant_id: str, edit: Edit) -> int:
        """Delete the tenant's data key and its credentials; return how many of these."""
        ...

    async def reseal(self, edit: Edit) -> int:
        """Wrap every data key that an older key has wrapped with the first key; return how many."""
        ...


UsersOf = Callable[[str], Collection[str]]
"""The routes that have candidates of an upstream."""
