"""Flags in Postgres; the log of the configuration has their history."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from chassis.postgres import Database

from orchestrator.configuration.model import ALL_TENANTS, ConfigurationKind, Document, Edit, ObjectKey
from orchestrator.configuration.ports import Configuration, OpenChange
from orchestrator.flags.documents import document_to_flag, flag_to_document
from orchestrator.flags.model import StoredFlag
from orchestrator.flags.ports import ChangeFlag
from orchestrator.flags.snapshot import FlagSnapshot

VERSION: Final = "SELECT version FROM configuration_versions"
SELECT: Final = "SELECT * FROM flags ORDER BY key"
FIND: Final = "SELECT * FROM flags WHERE key = $1"
UPSERT: Final = """
INSERT INTO flags (tenant_id, key, flag, version) VALUES ('*', $1, $2::jsonb, $3)
ON CONFLICT (tenant_id, key) DO UPDATE SET flag = excluded.flag, version = excluded.version, updated_at = now()
"""
DELETE: Final = "DELETE FROM flags WHERE key = $1"


class PostgresFlagStore:
    """Implements `FlagStore`, and `Restorer` for rollbacks of the whole configuration."""

    def __init__(self, database: Database, configuration: Configuration) -> None:
        self._database = database
        self._configuration = configuration

    async def read(self, known_version: int | None) -> FlagSnapshot | None:
        async with self._database.system() as connection:
            # The version is read first: a change between the two reads is read again under its own version.
            version = await connection.fetchval(VERSION)
            if version == known_version:
                return None
            rows = await connection.fetch(SELECT)
        flags = [row_to_stored(row).flag for row in rows]
        return FlagSnapshot(version, {flag.key: flag for flag in flags})

    async def find(self, key: str) -> StoredFlag | None:
        async with self._database.system() as connection:
            return await _find(connection, key)

    async def list(self) -> Sequence[StoredFlag]:
        async with self._database.system() as connection:
            return [row_to_stored(row) for row in await connection.fetch(SELECT)]

    async def edit(self, key: str, edit: Edit, change: ChangeFlag) -> StoredFlag | None:
        async with self._configuration.change(edit) as opened:
            stored = await _find(opened.connection, key)
            flag = change(stored)
            after = None if flag is None else flag_to_document(flag)
            await _write(opened, key, stored, after)
            return await _find(opened.connection, key)

    async def restore(self, change: OpenChange, key: ObjectKey, document: Document | None) -> None:
        await _write(change, key.name, await _find(change.connection, key.name), document)


async def _find(connection: Any, key: str) -> StoredFlag | None:
    row = await connection.fetchrow(FIND, key)
    return None if row is None else row_to_stored(row)


async def _write(change: OpenChange, key: str, stored: StoredFlag | None, after: Document | None) -> None:
    before = None if stored is None else flag_to_document(stored.flag)
    version = await change.record(ObjectKey(ConfigurationKind.FLAG, ALL_TENANTS, key), before, after)
    if version is None:
        return
    if after is None:
        await change.connection.execute(DELETE, key)
    else:
        await change.connection.execute(UPSERT, key, orjson.dumps(after).decode(), version)


def row_to_stored(row: Any) -> StoredFlag:
    flag = document_to_flag(row["key"], orjson.loads(row["flag"]))
    return StoredFlag(flag=flag, version=row["version"], updated_at=row["updated_at"])
