"""The log of changes in Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from chassis.postgres import Database

from orchestrator.configuration.model import Change, ChangeFilter, Document, Edit, ObjectKey

VERSION: Final = "SELECT version FROM configuration_versions WHERE tenant_id = '*'"
LOCK: Final = f"{VERSION} FOR UPDATE"
NEXT: Final = "UPDATE configuration_versions SET version = version + 1 WHERE tenant_id = '*' RETURNING version"
INSERT: Final = """
INSERT INTO configuration_changes (tenant_id, version, kind, name, before, after, author, reason)
VALUES ($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7, $8)
"""
LIST: Final = """
SELECT version, kind, tenant_id, name, before, after, author, reason, at
FROM configuration_changes
WHERE ($1 = 0 OR version < $1) AND ($2 = '' OR kind = $2) AND ($3 = '' OR tenant_id = $3) AND ($4 = '' OR name = $4)
ORDER BY version DESC LIMIT $5
"""
BETWEEN: Final = """
SELECT version, kind, tenant_id, name, before, after, author, reason, at
FROM configuration_changes WHERE version > $1 AND version <= $2 ORDER BY version
"""

Announce = Callable[[int], Awaitable[None]]
"""Tells every process of a new version. Never fails: processes that miss it poll."""


async def announce_nothing(_: int) -> None:
    """Do nothing: a change that is not announced is found by polling."""


async def record_change(
    connection: Any, edit: Edit, key: ObjectKey, before: Document | None, after: Document | None
) -> int | None:
    """Log a change in a transaction over all tenants; return its version, or None when nothing changes.

    Who calls it without `PostgresConfiguration.change` locks the version first (`LOCK`), and announces it afterwards.
    """
    if before == after:
        return None
    version: int = await connection.fetchval(NEXT)
    values = (_to_json(before), _to_json(after), edit.author, edit.reason)
    await connection.execute(INSERT, key.tenant_id, version, key.kind, key.name, *values)
    return version


class PostgresChange:
    """Implements `OpenChange`."""

    def __init__(self, connection: Any, edit: Edit) -> None:
        self.connection = connection
        self.version: int | None = None
        self._edit = edit

    async def record(self, key: ObjectKey, before: Document | None, after: Document | None) -> int | None:
        version = await record_change(self.connection, self._edit, key, before, after)
        self.version = version or self.version
        return version


class PostgresConfiguration:
    """Implements `Configuration`. Changes wait for one another: they are rare, and their versions have an order."""

    def __init__(self, database: Database, announce: Announce) -> None:
        self._database = database
        self._announce = announce

    @asynccontextmanager
    async def change(self, edit: Edit) -> AsyncIterator[PostgresChange]:
        async with self._database.system() as connection:
            await connection.fetchval(LOCK)
            change = PostgresChange(connection, edit)
            yield change
        if change.version is not None:
            await self._announce(change.version)

    async def version(self) -> int:
        rows = await self._database.system().fetch(VERSION)
        return int(rows[0]["version"])

    async def list_changes(self, wanted: ChangeFilter) -> Sequence[Change]:
        rows = await self._database.system().fetch(
            LIST, wanted.before_version, wanted.kind, wanted.tenant_id, wanted.name, wanted.limit
        )
        return [row_to_change(row) for row in rows]

    async def changes_between(self, after: int, until: int) -> Sequence[Change]:
        return [row_to_change(row) for row in await self._database.system().fetch(BETWEEN, after, until)]


def row_to_change(row: Any) -> Change:
    return Change(
        row["version"],
        ObjectKey(row["kind"], row["tenant_id"], row["name"]),
        _from_json(row["before"]),
        _from_json(row["after"]),
        row["author"],
        row["reason"],
        row["at"],
    )


def _to_json(document: Document | None) -> str | None:
    return None if document is None else orjson.dumps(document).decode()


def _from_json(text: str | None) -> Document | None:
    return None if text is None else orjson.loads(text)
