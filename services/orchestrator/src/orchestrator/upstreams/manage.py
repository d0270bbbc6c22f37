"""What operators do to upstreams and credentials. Each change has an author and a reason, and reaches every worker."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest
from chassis.ids import new_id

from orchestrator.configuration.model import Edit
from orchestrator.routing.edit import check_tenant
from orchestrator.upstreams.cache import UpstreamCache
from orchestrator.upstreams.documents import document_to_upstream
from orchestrator.upstreams.model import (
    Credential,
    CredentialKey,
    CredentialNotFound,
    StoredUpstream,
    Upstream,
    UpstreamNotFound,
    UpstreamVersionConflict,
)
from orchestrator.upstreams.ports import UpstreamStore

MIN_SECRET_CHARACTERS: Final = 8
"""Shorter ones could not be kept out of messages."""
MAX_SECRET_CHARACTERS: Final = 4_096
MAX_LABEL_CHARACTERS: Final = 100
MAX_WEIGHT: Final = 1_000


@dataclass(frozen=True, slots=True)
class CredentialChange:
    """What to change of a credential; None stays as it is."""

    enabled: bool | None = None
    weight: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class ManageUpstreams:
    """This replica has a change before the call returns. `allowed_hosts` are not checked."""

    store: UpstreamStore
    cache: UpstreamCache
    clock: Clock
    allowed_hosts: Collection[str] = ()

    async def get(self, name: str) -> StoredUpstream:
        """Raises UpstreamNotFound."""
        return _found(await self.store.find(name), name)

    async def put(self, name: str, document: Any, edit: Edit, *, expected_version: int | None = None) -> StoredUpstream:
        """Create or replace an upstream. Raises InvalidRequest, UpstreamAddressNotAllowed, UpstreamVersionConflict."""
        _check_reason(edit)
        upstream = document_to_upstream(name, document, self.allowed_hosts)

        def change(stored: StoredUpstream | None) -> Upstream:
            version = 0 if stored is None else stored.version
            if expected_version not in (None, version):
                raise UpstreamVersionConflict(
                    f"The upstream {name!r} has the version {version} now, not {expected_version}.", param="version"
                )
            return upstream

        stored = await self.store.edit(name, edit, change)
        await self._refresh()
        return _found(stored, name)

    async def delete(self, name: str, edit: Edit) -> None:
        """Remove an upstream and its credentials. Raises UpstreamNotFound, UpstreamInUse."""
        _check_reason(edit)

        def change(stored: StoredUpstream | None) -> None:
            _found(stored, name)

        await self.store.edit(name, edit, change)
        await self._refresh()

    async def credentials(self, upstream: str, tenant_id: str) -> Sequence[Credential]:
        """Raises UpstreamNotFound."""
        await self.get(upstream)
        return await self.store.credentials(upstream, tenant_id)

    async def add_credential(
        self, upstream: str, tenant_id: str, secret: str, edit: Edit, *, label: str = "", weight: int = 1
    ) -> Credential:
        """Raises InvalidRequest, UpstreamNotFound, CredentialsNotConfigured."""
        _check_reason(edit)
        _check_secret(secret)
        key = CredentialKey(check_tenant(tenant_id), upstream, new_id("crd_"))
        credential = Credential(key, _label(label), _weight(weight), enabled=True, created_at=self.clock.now())
        added = await self.store.add_credential(credential, secret, edit)
        await self._refresh()
        return added

    async def change_credential(self, key: CredentialKey, wanted: CredentialChange, edit: Edit) -> Credential:
        """Raises InvalidRequest, CredentialNotFound."""
        _check_reason(edit)

        def change(credential: Credential) -> Credential:
            return replace(
                credential,
                enabled=credential.enabled if wanted.enabled is None else wanted.enabled,
                weight=credential.weight if wanted.weight is None else _weight(wanted.weight),
                label=credential.label if wanted.label is None else _label(wanted.label),
            )

        changed = await self.store.edit_credential(key, edit, change)
        await self._refresh()
        if changed is None:
            raise CredentialNotFound(f"There is no credential {key.credential_id!r}.", param="credential_id")
        return changed

    async def delete_credential(self, key: CredentialKey, edit: Edit) -> None:
        """Raises CredentialNotFound."""
        _check_reason(edit)
        await self.store.edit_credential(key, edit, lambda _: None)
        await self._refresh()

    async def shred(self, tenant_id: str, edit: Edit) -> int:
        """Make a tenant's credentials unreadable for ever, in copies too; return how many there were."""
        _check_reason(edit)
        deleted = await self.store.shred(check_tenant(tenant_id), edit)
        await self._refresh()
        return deleted

    async def _refresh(self) -> None:
        # The change is stored: a read that fails now is repeated by the feed of the configuration.
        with suppress(ArgosyError):
            await self.cache.refresh()


def _check_reason(edit: Edit) -> None:
    if not edit.reason.strip():
        raise InvalidRequest("A change of an upstream needs a reason.", param="reason")


def _check_secret(secret: str) -> None:
    if not MIN_SECRET_CHARACTERS <= len(secret) <= MAX_SECRET_CHARACTERS:
        raise InvalidRequest(
            f"A credential has {MIN_SECRET_CHARACTERS} to {MAX_SECRET_CHARACTERS} characters.", param="secret"
        )
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise InvalidRequest("A credential has printable ASCII characters only, and no spaces.", param="secret")


def _label(label: str) -> str:
    if len(label) > MAX_LABEL_CHARACTERS or (label and not label.isprintable()):
        raise InvalidRequest(f"A label is one line of at most {MAX_LABEL_CHARACTERS} characters.", param="label")
    return label


def _weight(weight: int) -> int:
    if not 1 <= weight <= MAX_WEIGHT:
        raise InvalidRequest(f"A weight is a whole number from 1 to {MAX_WEIGHT}.", param="weight")
    return weight


def _found(stored: StoredUpstream | None, name: str) -> StoredUpstream:
    if stored is None:
        raise UpstreamNotFound(f"The API has declared no upstream {name!r}.", param="name")
    return stored
