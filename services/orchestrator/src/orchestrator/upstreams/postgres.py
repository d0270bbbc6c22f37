"""Upstreams in Postgres; the log of the configuration has their history."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
from chassis.postgres import Database

from orchestrator.configuration.model import ALL_TENANTS, ConfigurationKind, Document, Edit, ObjectKey
from orchestrator.configuration.ports import Configuration, OpenChange
from orchestrator.upstreams.credentials_postgres import PostgresCredentials, row_to_sealed
from orchestrator.upstreams.documents import stored_to_upstream
from orchestrator.upstreams.model import StoredUpstream, UpstreamInUse, UpstreamSnapshot
from orchestrator.upstreams.ports import ChangeUpstream
from orchestrator.upstreams.vault import Vault

VERSION: Final = """
SELECT coalesce(max(version), 0) FROM configuration_changes WHERE kind IN ('upstream', 'credential', 'data_key')
"""
SELECT: Final = "SELECT * FROM upstreams ORDER BY name"
FIND: Final = "SELECT * FROM upstreams WHERE name = $1"
UPSERT: Final = """
INSERT INTO upstreams (tenant_id, name, upstream, version) VALUES ('*', $1, $2::jsonb, $3)
ON CONFLICT (tenant_id, name) DO UPDATE
SET upstream = excluded.upstream, version = excluded.version, updated_at = now()
"""
DELETE: Final = "DELETE FROM upstreams WHERE name = $1"
DATA_KEYS: Final = "SELECT tenant_id, wrapped_key FROM data_keys"
SEALED: Final = """
SELECT tenant_id, upstream, credential_id, sealed, weight FROM upstream_credentials
WHERE enabled ORDER BY tenant_id, upstream, credential_id
"""

RoutesOf = Callable[[Any, str], Awaitable[Sequence[str]]]
"""Reads, on a connection, the models whose routes have candidates of an upstream."""


class PostgresUpstreamStore(PostgresCredentials):
    """Implements `UpstreamStore`, and `Restorer` for rollbacks of the whole configuration."""

    def __init__(self, database: Database, configuration: Configuration, vault: Vault, routes_of: RoutesOf) -> None:
        super().__init__(database, configuration, vault)
        self._routes_of = routes_of

    async def read(self, known_version: int | None) -> UpstreamSnapshot | None:
        async with self._database.system() as connection:
            # The version is read first: a change between the two reads is read again under its own version.
            version = await connection.fetchval(VERSION)
            if version == known_version:
                return None
            upstreams = await connection.fetch(SELECT)
            data_keys = await connection.fetch(DATA_KEYS)
            credentials = await connection.fetch(SEALED)
        return UpstreamSnapshot(
            version,
            tuple(row_to_stored(row).upstream for row in upstreams),
            {row["tenant_id"]: row["wrapped_key"] for row in data_keys},
            tuple(map(row_to_sealed, credentials)),
        )

    async def find(self, name: str) -> StoredUpstream | None:
        async with self._database.system() as connection:
            return await _find(connection, name)

    async def list(self) -> Sequence[StoredUpstream]:
        async with self._database.system() as connection:
            return [row_to_stored(row) for row in await connection.fetch(SELECT)]

    async def edit(self, name: str, edit: Edit, change: ChangeUpstream) -> StoredUpstream | None:
        async with self._configuration.change(edit) as opened:
            stored = await _find(opened.connection, name)
            upstream = change(stored)
            await self._write(opened, name, stored, None if upstream is None else upstream.document)
            return await _find(opened.connection, name)

    async def restore(self, change: OpenChange, key: ObjectKey, document: Document | None) -> None:
        await self._write(change, key.name, await _find(change.connection, key.name), document)

    async def _write(
        self, change: OpenChange, name: str, stored: StoredUpstream | None, after: Document | None
    ) -> None:
        before = None if stored is None else stored.upstream.document
        if after is None and stored is not None:
            await self._refuse_if_used(change.connection, name)
            await self._delete_credentials_of(change, name)
        version = await change.record(ObjectKey(ConfigurationKind.UPSTREAM, ALL_TENANTS, name), before, after)
        if version is None:
            return
        if after is None:
            await change.connection.execute(DELETE, name)
        else:
            await change.connection.execute(UPSERT, name, orjson.dumps(after).decode(), version)

    async def _refuse_if_used(self, connection: Any, name: str) -> None:
        models = await self._routes_of(connection, name)
        if models:
            raise UpstreamInUse(
                f"The upstream {name!r} has candidates in the route of {', '.join(models)}.", param="name"
            )


async def _find(connection: Any, name: str) -> StoredUpstream | None:
    row = await connection.fetchrow(FIND, name)
    return None if row is None else row_to_stored(row)


def row_to_stored(row: Any) -> StoredUpstream:
    upstream = stored_to_upstream(row["name"], orjson.loads(row["upstream"]))
    return StoredUpstream(upstream, row["version"], row["updated_at"])
