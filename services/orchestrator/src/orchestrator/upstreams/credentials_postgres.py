"""Sealed credentials and wrapped data keys in Postgres."""

from collections.abc import Sequence
from typing import Any, Final

from chassis.errors import InvalidRequest
from chassis.postgres import Database

from orchestrator.configuration.model import ConfigurationKind, Document, Edit, ObjectKey
from orchestrator.configuration.ports import Configuration, OpenChange
from orchestrator.upstreams.model import (
    Credential,
    CredentialKey,
    CredentialNotFound,
    SealedCredential,
    UpstreamNotFound,
)
from orchestrator.upstreams.ports import ChangeCredential
from orchestrator.upstreams.vault import Vault

MAX_CREDENTIALS: Final = 100
"""Of one tenant and upstream."""

COLUMNS: Final = "tenant_id, upstream, credential_id, label, weight, enabled, created_at"
LIST: Final = f"""
SELECT {COLUMNS} FROM upstream_credentials
WHERE upstream = $1 AND ($2 = '' OR tenant_id = $2) ORDER BY tenant_id, credential_id
"""  # noqa: S608 - columns of the line above
FIND: Final = f"""
SELECT {COLUMNS} FROM upstream_credentials WHERE tenant_id = $1 AND upstream = $2 AND credential_id = $3
"""  # noqa: S608
OF_TENANT: Final = f"SELECT {COLUMNS} FROM upstream_credentials WHERE tenant_id = $1"  # noqa: S608
COUNT: Final = "SELECT count(*) FROM upstream_credentials WHERE tenant_id = $1 AND upstream = $2"
INSERT: Final = """
INSERT INTO upstream_credentials (tenant_id, upstream, credential_id, sealed, label, weight, enabled, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
UPDATE: Final = """
UPDATE upstream_credentials SET label = $4, weight = $5, enabled = $6
WHERE tenant_id = $1 AND upstream = $2 AND credential_id = $3
"""
DELETE: Final = "DELETE FROM upstream_credentials WHERE tenant_id = $1 AND upstream = $2 AND credential_id = $3"
EXISTS: Final = "SELECT 1 FROM upstreams WHERE name = $1"
DATA_KEY: Final = "SELECT wrapped_key FROM data_keys WHERE tenant_id = $1"
DATA_KEYS: Final = "SELECT tenant_id, wrapped_key FROM data_keys ORDER BY tenant_id"
INSERT_DATA_KEY: Final = "INSERT INTO data_keys (tenant_id, wrapped_key) VALUES ($1, $2)"
UPDATE_DATA_KEY: Final = "UPDATE data_keys SET wrapped_key = $2, wrapped_at = now() WHERE tenant_id = $1"
DELETE_DATA_KEY: Final = "DELETE FROM data_keys WHERE tenant_id = $1"

DATA_KEY_NAME: Final = "credentials"


class PostgresCredentials:
    """The part of `UpstreamStore` that is about credentials."""

    def __init__(self, database: Database, configuration: Configuration, vault: Vault) -> None:
        self._database = database
        self._configuration = configuration
        self._vault = vault

    async def credentials(self, upstream: str, tenant_id: str) -> Sequence[Credential]:
        async with self._database.system() as connection:
            return [row_to_credential(row) for row in await connection.fetch(LIST, upstream, tenant_id)]

    async def add_credential(self, credential: Credential, secret: str, edit: Edit) -> Credential:
        key = credential.key
        async with self._configuration.change(edit) as opened:
            connection = opened.connection
            if await connection.fetchval(EXISTS, key.upstream) is None:
                raise UpstreamNotFound(f"The API has declared no upstream {key.upstream!r}.", param="name")
            if await connection.fetchval(COUNT, key.tenant_id, key.upstream) >= MAX_CREDENTIALS:
                raise InvalidRequest(f"A tenant has at most {MAX_CREDENTIALS} credentials of an upstream.")
            sealed = self._vault.seal(secret, key, await self._data_key(opened, key.tenant_id))
            await connection.execute(
                INSERT,
                *_columns(key),
                sealed,
                credential.label,
                credential.weight,
                credential.enabled,
                credential.created_at,
            )
            await opened.record(_object_key(key), None, _document(credential))
        return credential

    async def edit_credential(self, key: CredentialKey, edit: Edit, change: ChangeCredential) -> Credential | None:
        async with self._configuration.change(edit) as opened:
            row = await opened.connection.fetchrow(FIND, *_columns(key))
            if row is None:
                raise CredentialNotFound(f"There is no credential {key.credential_id!r}.", param="credential_id")
            before = row_to_credential(row)
            after = change(before)
            if after is None:
                await self._delete(opened, before)
            elif await opened.record(_object_key(key), _document(before), _document(after)) is not None:
                await opened.connection.execute(UPDATE, *_columns(key), after.label, after.weight, after.enabled)
        return after

    async def shred(self, tenant_id: str, edit: Edit) -> int:
        async with self._configuration.change(edit) as opened:
            rows = await opened.connection.fetch(OF_TENANT, tenant_id)
            for row in rows:
                await self._delete(opened, row_to_credential(row))
            wrapped = await opened.connection.fetchval(DATA_KEY, tenant_id)
            if wrapped is not None:
                await opened.connection.execute(DELETE_DATA_KEY, tenant_id)
                await opened.record(_data_key_object(tenant_id), _data_key_document(wrapped), None)
        return len(rows)

    async def reseal(self, edit: Edit) -> int:
        done = 0
        async with self._configuration.change(edit) as opened:
            for row in await opened.connection.fetch(DATA_KEYS):
                tenant_id, before = row["tenant_id"], row["wrapped_key"]
                after = self._vault.rewrap(before, tenant_id)
                if after is None:
                    continue
                await opened.connection.execute(UPDATE_DATA_KEY, tenant_id, after)
                documents = _data_key_document(before), _data_key_document(after)
                await opened.record(_data_key_object(tenant_id), *documents)
                done += 1
        return done

    async def _data_key(self, opened: OpenChange, tenant_id: str) -> bytes:
        """Return the tenant's wrapped data key; make one if there is none."""
        wrapped: bytes | None = await opened.connection.fetchval(DATA_KEY, tenant_id)
        if wrapped is None:
            wrapped = self._vault.new_data_key(tenant_id)
            await opened.connection.execute(INSERT_DATA_KEY, tenant_id, wrapped)
            await opened.record(_data_key_object(tenant_id), None, _data_key_document(wrapped))
        return wrapped

    async def _delete_credentials_of(self, opened: OpenChange, upstream: str) -> None:
        for row in await opened.connection.fetch(LIST, upstream, ""):
            await self._delete(opened, row_to_credential(row))

    async def _delete(self, opened: OpenChange, credential: Credential) -> None:
        await opened.connection.execute(DELETE, *_columns(credential.key))
        await opened.record(_object_key(credential.key), _document(credential), None)


def row_to_credential(row: Any) -> Credential:
    key = CredentialKey(row["tenant_id"], row["upstream"], row["credential_id"])
    return Credential(key, row["label"], row["weight"], row["enabled"], row["created_at"])


def row_to_sealed(row: Any) -> SealedCredential:
    key = CredentialKey(row["tenant_id"], row["upstream"], row["credential_id"])
    return SealedCredential(key, row["sealed"], row["weight"])


def _columns(key: CredentialKey) -> tuple[str, str, str]:
    return key.tenant_id, key.upstream, key.credential_id


def _object_key(key: CredentialKey) -> ObjectKey:
    return ObjectKey(ConfigurationKind.CREDENTIAL, key.tenant_id, f"{key.upstream}/{key.credential_id}")


def _document(credential: Credential) -> Document:
    return {"label": credential.label, "weight": credential.weight, "enabled": credential.enabled}


def _data_key_object(tenant_id: str) -> ObjectKey:
    return ObjectKey(ConfigurationKind.DATA_KEY, tenant_id, DATA_KEY_NAME)


def _data_key_document(wrapped: bytes) -> Document:
    # Which key of the ring has wrapped it, so that the log says how far a rotation is.
    return {"wrapped_by": wrapped[1:5].hex()}
