"""Migrations: numbered SQL files, each applied once, in order, by one process at a time."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from chassis.errors import ArgosyError, Kind
from chassis.postgres.failures import CONNECT_ERRORS, unavailable
from chassis.postgres.quoting import identifier
from chassis.telemetry import logger

NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql", re.ASCII)
UNWRAPPED = "-- argosy: no transaction"
LOCK_TIMEOUT = "5s"
CONNECT_TIMEOUT_SECONDS = 10.0
LOCK_POLL_SECONDS = 0.2

log = logger("chassis.postgres")


class BrokenMigrations(ArgosyError, public=False):
    """Migration files are misnamed, have equal numbers, or were changed after they were applied."""

    kind, reason = Kind.INTERNAL, "BROKEN_MIGRATIONS"


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def wrapped(self) -> bool:
        """Whether it runs in a transaction. A file with a statement that cannot is marked in its first line."""
        return not self.sql.startswith(UNWRAPPED)


def load(folder: Path) -> list[Migration]:
    """Read the migrations of `folder` in order. Raises `BrokenMigrations`."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = NAME.fullmatch(path.name)
        if match is None:
            raise BrokenMigrations(f"{path.name} is not named NNNN_title.sql")
        version = int(match[1])
        if version in found:
            raise BrokenMigrations(f"{path.name} and {found[version].name} have the same number")
        found[version] = Migration(version, path.name, path.read_text(encoding="utf-8"))
    return list(found.values())


async def migrate(dsn: str, folder: Path, schema: str) -> list[str]:
    """Apply the new migrations of `folder` to `schema`, as the owner role in `dsn`; returns their names.

    Processes may call it concurrently: one applies, the others wait. Migrations see the rows of all tenants
    (`argosy.tenant` is `*`). Raises `BrokenMigrations` when an applied file was changed since,
    `Unavailable` when Postgres does not answer; asyncpg's exceptions for wrong SQL, with that file rolled back.
    """
    migrations = load(folder)
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={
                "application_name": f"migrate {schema}",
                "lock_timeout": LOCK_TIMEOUT,
                "search_path": f"{identifier(schema)}, public",
                "argosy.tenant": "*",
            },
        )
    except CONNECT_ERRORS as error:
        raise unavailable(schema, error) from error
    try:
        await _lock(connection, schema)
        applied = await _applied(connection, schema)
        _check_unchanged(migrations, applied)
        new = [migration for migration in migrations if migration.version not in applied]
        for migration in new:
            await _apply(connection, migration, schema)
            log.info("migration_applied", schema=schema, migration=migration.name)
        return [migration.name for migration in new]
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)


async def _lock(connection: Any, schema: str) -> None:
    # Polled, because a waiting statement holds a snapshot, and CREATE INDEX CONCURRENTLY in the process that has the
    # lock would wait for that snapshot for ever. The lock ends with the connection.
    key = int.from_bytes(hashlib.sha256(f"migrate {schema}".encode()).digest()[:8], signed=True)
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):  # noqa: ASYNC110
        await asyncio.sleep(LOCK_POLL_SECONDS)


async def _applied(connection: Any, schema: str) -> dict[int, str]:
    table = f"{identifier(schema)}.schema_migrations"
    if await connection.fetchval("SELECT to_regclass($1)", table) is None:
        await connection.execute(
            f"""
            CREATE TABLE {table} (
                version integer PRIMARY KEY,
                name text NOT NULL,
                checksum text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            );
            """
        )
        await _revoke_writes(connection, schema, table)
    rows = await connection.fetch(f"SELECT version, checksum FROM {table}")  # noqa: S608 - quoted
    return {row["version"]: row["checksum"] for row in rows}


async def _revoke_writes(connection: Any, schema: str, table: str) -> None:
    # Default privileges let the app role write to this table; it must not change what was applied.
    grantees = await connection.fetch(
        "SELECT DISTINCT grantee FROM information_schema.role_table_grants"
        " WHERE table_schema = $1 AND table_name = 'schema_migrations' AND grantee <> current_user",
        schema,
    )
    for row in grantees:
        await connection.execute(f"REVOKE INSERT, UPDATE, DELETE ON {table} FROM {identifier(row['grantee'])}")


def _check_unchanged(migrations: list[Migration], applied: dict[int, str]) -> None:
    changed = [m.name for m in migrations if applied.get(m.version, m.checksum) != m.checksum]
    if changed:
        raise BrokenMigrations(f"changed after it was applied: {', '.join(changed)}; write a new one instead")


async def _apply(connection: Any, migration: Migration, schema: str) -> None:
    record = (
        f"INSERT INTO {identifier(schema)}.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",  # noqa: S608
        migration.version,
        migration.name,
        migration.checksum,
    )
    if not migration.wrapped:
        await connection.execute(migration.sql)
        await connection.execute(*record)
        return
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(*record)
