"""Upstreams and sealed credentials in memory, with the log of their changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from orchestrator.configuration.model import ALL_TENANTS, ConfigurationKind, Edit, ObjectKey
from orchestrator.upstreams.model import (
    Credential,
    CredentialKey,
    CredentialNotFound,
    SealedCredential,
    StoredUpstream,
    UpstreamInUse,
    UpstreamNotFound,
    UpstreamSnapshot,
)
from orchestrator.upstreams.ports import ChangeCredential, ChangeUpstream
from orchestrator.upstreams.vault import Vault

from services.orchestrator.tests.fake_configuration import CREATED_AT, FakeChange, FakeConfiguration

OLD_KEY, NEW_KEY = "an old key of thirty-two characters", "a new key of thirty-two characters!"
OPENAI = {"kind": "openai", "base_url": "https://api.example.com/v1"}


class FakeUpstreamStore:
    """Implements `UpstreamStore`. `used` maps upstreams to the models whose routes need them."""

    def __init__(self, keys: Sequence[str] = (OLD_KEY,)) -> None:
        self.log = FakeConfiguration()
        self.vault = Vault(keys)
        self.used: dict[str, list[str]] = {}
        self.data_keys: dict[str, bytes] = {}
        self.sealed: dict[CredentialKey, bytes] = {}
        self._upstreams: dict[str, StoredUpstream] = {}
        self._credentials: dict[CredentialKey, Credential] = {}

    async def read(self, known_version: int | None) -> UpstreamSnapshot | None:
        version = await self.log.version()
        if version == known_version:
            return None
        enabled = [self._credentials[key] for key in sorted(self._credentials, key=_order)]
        credentials = [SealedCredential(one.key, self.sealed[one.key], one.weight) for one in enabled if one.enabled]
        upstreams = tuple(stored.upstream for stored in await self.list())
        return UpstreamSnapshot(version, upstreams, dict(self.data_keys), tuple(credentials))

    async def find(self, name: str) -> StoredUpstream | None:
        return self._upstreams.get(name)

    async def list(self) -> Sequence[StoredUpstream]:
        return [self._upstreams[name] for name in sorted(self._upstreams)]

    async def edit(self, name: str, edit: Edit, change: ChangeUpstream) -> StoredUpstream | None:
        async with self.log.change(edit) as opened:
            stored = self._upstreams.get(name)
            upstream = change(stored)
            if upstream is None and self.used.get(name):
                raise UpstreamInUse(f"used by {self.used[name]}", param="name")
            if upstream is None:
                await self._drop([key for key in self._credentials if key.upstream == name], opened)
            before = None if stored is None else stored.upstream.document
            after = None if upstream is None else upstream.document
            key = ObjectKey(ConfigurationKind.UPSTREAM, ALL_TENANTS, name)
            version = await opened.record(key, before, after)
            if upstream is None:
                self._upstreams.pop(name, None)
            elif version is not None:
                self._upstreams[name] = StoredUpstream(upstream, version, CREATED_AT)
        return self._upstreams.get(name)

    async def credentials(self, upstream: str, tenant_id: str) -> Sequence[Credential]:
        found = [key for key in self._credentials if key.upstream == upstream and tenant_id in ("", key.tenant_id)]
        return [self._credentials[key] for key in sorted(found, key=_order)]

    async def add_credential(self, credential: Credential, secret: str, edit: Edit) -> Credential:
        key = credential.key
        async with self.log.change(edit) as opened:
            if key.upstream not in self._upstreams:
                raise UpstreamNotFound(key.upstream)
            if key.tenant_id not in self.data_keys:
                self.data_keys[key.tenant_id] = self.vault.new_data_key(key.tenant_id)
                await opened.record(ObjectKey("data_key", key.tenant_id, "credentials"), None, {"new": True})
            self.sealed[key] = self.vault.seal(secret, key, self.data_keys[key.tenant_id])
            self._credentials[key] = credential
            await opened.record(_object(key), None, _document(credential))
        return credential

    async def edit_credential(self, key: CredentialKey, edit: Edit, change: ChangeCredential) -> Credential | None:
        async with self.log.change(edit) as opened:
            if key not in self._credentials:
                raise CredentialNotFound(key.credential_id)
            before = self._credentials[key]
            after = change(replace(before))
            if after is None:
                await self._drop([key], opened)
            else:
                self._credentials[key] = after
                await opened.record(_object(key), _document(before), _document(after))
        return after

    async def shred(self, tenant_id: str, edit: Edit) -> int:
        async with self.log.change(edit) as opened:
            keys = [key for key in self._credentials if key.tenant_id == tenant_id]
            await self._drop(keys, opened)
            if self.data_keys.pop(tenant_id, None) is not None:
                await opened.record(ObjectKey("data_key", tenant_id, "credentials"), {"new": True}, None)
        return len(keys)

    async def reseal(self, edit: Edit) -> int:
        done = 0
        async with self.log.change(edit) as opened:
            for tenant_id, before in self.data_keys.items():
                after = self.vault.rewrap(before, tenant_id)
                if after is not None:
                    self.data_keys[tenant_id] = after
                    await opened.record(ObjectKey("data_key", tenant_id, "credentials"), {"old": 1}, {"new": 1})
                    done += 1
        return done

    async def _drop(self, keys: Sequence[CredentialKey], opened: FakeChange) -> None:
        for key in keys:
            await opened.record(_object(key), _document(self._credentials.pop(key)), None)
            del self.sealed[key]


def _order(key: CredentialKey) -> tuple[str, str, str]:
    return key.tenant_id, key.upstream, key.credential_id


def _object(key: CredentialKey) -> ObjectKey:
    return ObjectKey("credential", key.tenant_id, f"{key.upstream}/{key.credential_id}")


def _document(credential: Credential) -> dict[str, Any]:
    return {"label": credential.label, "weight": credential.weight, "enabled": credential.enabled}
