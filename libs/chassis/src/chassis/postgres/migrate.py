"""Migrations: numbered SQL files that are applied once, and function files that are applied again when they change.

`NNNN_title.sql` changes tables and constraints. Each file is applied once, in the order of the numbers, and must not
be changed afterwards. `functions/title.sql` holds functions that the statements of a service call. After the numbered
files these are applied in the order of their names: a new file once, a changed file again. So a function is edited in
place and reviewed as a diff. A function file must be safe to repeat (`CREATE OR REPLACE FUNCTION`); to change a result
type, it drops the function first. Removing a file drops nothing: write a numbered file that does. Functions that
triggers or constraints name belong to the numbered files, because these run first.

One process at a time applies both kinds (an advisory lock per schema), each file in a transaction of its own that also
records its SHA-256: in the table `schema_migrations`, by number, or `schema_functions`, by name.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from chassis.errors import ArgosyError, Kind
from chassis.postgres.failures import CONNECT_ERRORS, refuses_parameters, unavailable
from chassis.postgres.quoting import identifier
from chassis.telemetry import logger

NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql", re.ASCII)
FUNCTION_NAME = re.compile(r"[a-z0-9_]+\.sql", re.ASCII)
FUNCTIONS = "functions"
UNWRAPPED = "-- argosy: no transaction"
LOCK_TIMEOUT = "5s"
CONNECT_TIMEOUT_SECONDS = 10.0
LOCK_POLL_SECONDS = 0.2
POOLED_OWNER = (
    "POSTGRES__OWNER_DSN leads through a connection pooler, which drops what a session sets: migrations need locks that"
    " a session holds; connect to Postgres itself"
)

# Every table's row-level security, written once. `Database.tenant` sets `argosy.tenant`; '*' is for
# transactions over all tenants. USING without WITH CHECK holds for written rows too.
ISOLATE_TENANTS = """
CREATE OR REPLACE FUNCTION {schema}.isolate_tenants(VARIADIC tables regclass[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name regclass;
BEGIN
    FOREACH name IN ARRAY tables LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format($policy$
            CREATE POLICY tenant ON %s USING (
                tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*'
            )
        $policy$, name);
    END LOOP;
END $$
"""

log = logger("chassis.postgres")


class BrokenMigrations(ArgosyError, public=False):
    """Migration files are misnamed, have equal numbers, or were changed after they were applied."""

    kind, reason = Kind.INTERNAL, "BROKEN_MIGRATIONS"


class PooledOwner(ArgosyError, public=False):
    """The owner's connection leads through a pooler, which does not keep a session and its locks."""

    kind, reason = Kind.INTERNAL, "POOLED_OWNER"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. A numbered file is known by its `version`, a function file, whose version is None, by its `name`."""

    version: int | None
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
    """Read the numbered files of `folder` in order. Raises `BrokenMigrations` for a bad or repeated number."""
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


def load_functions(folder: Path) -> list[Migration]:
    """Read the function files of `folder` in the order of their names. Raises `BrokenMigrations` for a bad name."""
    paths = sorted((folder / FUNCTIONS).glob("*.sql"))
    for path in paths:
        if FUNCTION_NAME.fullmatch(path.name) is None:
            raise BrokenMigrations(f"{FUNCTIONS}/{path.name} is not named title.sql")
    return [Migration(None, f"{FUNCTIONS}/{path.name}", path.read_text(encoding="utf-8")) for path in paths]


async def migrate(dsn: str, folder: Path, schema: str) -> list[str]:
    """Apply what is new or changed in `folder` to `schema`, as the owner role in `dsn`; returns the names applied.

    Migrations may call `isolate_tenants('a_table', …)`, which forces row-level security on tables by their tenant_id.
    Processes may call it concurrently: one applies, the others wait. Migrations see the rows of all tenants
    (`argosy.tenant` is `*`). Raises `BrokenMigrations` when an applied numbered file was changed, `PooledOwner` behind
    a pooler, `Unavailable` when Postgres does not answer; asyncpg's exceptions for wrong SQL, with that file rolled
    back.
    """
    numbered, functions = load(folder), load_functions(folder)
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
        if refuses_parameters(error):
            raise PooledOwner(POOLED_OWNER) from error
        raise unavailable(schema, error) from error
    try:
        await _check_session(connection)
        await _lock(connection, schema)
        applied = await _applied(connection, schema)
        _check_unchanged(numbered, applied)
        new = [migration for migration in numbered if migration.version not in applied]
        checksums = await _function_checksums(connection, schema) if functions else {}
        new += [function for function in functions if checksums.get(function.name) != function.checksum]
        if new:
            await connection.execute(ISOLATE_TENANTS.format(schema=identifier(schema)))
        for migration in new:
            await _apply(connection, migration, schema)
            log.info("migration_applied", schema=schema, migration=migration.name)
        return [migration.name for migration in new]
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)


async def _check_session(connection: Any) -> None:
    # A pooler may drop a start-up parameter instead of refusing it. Then the lock below would not be held either.
    if await connection.fetchval("SELECT current_setting('argosy.tenant', true)") != "*":
        raise PooledOwner(POOLED_OWNER)


async def _lock(connection: Any, schema: str) -> None:
    # Polled, because a statement that waits for the lock holds a snapshot, and CREATE INDEX CONCURRENTLY in the process
    # that has the lock would wait for that snapshot for ever. Closing the connection releases the lock.
    key = int.from_bytes(hashlib.sha256(f"migrate {schema}".encode()).digest()[:8], signed=True)
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):  # noqa: ASYNC110
        await asyncio.sleep(LOCK_POLL_SECONDS)


async def _applied(connection: Any, schema: str) -> dict[int | None, str]:
    table = await _make_table(
        connection, schema, "schema_migrations", "version integer PRIMARY KEY, name text NOT NULL"
    )
    rows = await connection.fetch(f"SELECT version, checksum FROM {table}")  # noqa: S608 - quoted
    return {row["version"]: row["checksum"] for row in rows}


async def _function_checksums(connection: Any, schema: str) -> dict[str, str]:
    table = await _make_table(connection, schema, "schema_functions", "name text PRIMARY KEY")
    rows = await connection.fetch(f"SELECT name, checksum FROM {table}")  # noqa: S608 - quoted
    return {row["name"]: row["checksum"] for row in rows}


async def _make_table(connection: Any, schema: str, name: str, key: str) -> str:
    table = f"{identifier(schema)}.{name}"
    if await connection.fetchval("SELECT to_regclass($1)", table) is None:
        await connection.execute(
            f"CREATE TABLE {table} ({key}, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        await _revoke_writes(connection, schema, name)
    return table


async def _revoke_writes(connection: Any, schema: str, table: str) -> None:
    # Default privileges let the app role write to this table too; only the owner records what was applied.
    grantees = await connection.fetch(
        "SELECT DISTINCT grantee FROM information_schema.role_table_grants"
        " WHERE table_schema = $1 AND table_name = $2 AND grantee <> current_user",
        schema,
        table,
    )
    for row in grantees:
        await connection.execute(
            f"REVOKE INSERT, UPDATE, DELETE ON {identifier(schema)}.{table} FROM {identifier(row['grantee'])}"
        )


def _check_unchanged(migrations: list[Migration], applied: Mapping[int | None, str]) -> None:
    changed = [m.name for m in migrations if applied.get(m.version, m.checksum) != m.checksum]
    if changed:
        raise BrokenMigrations(f"changed after it was applied: {', '.join(changed)}; write a new one instead")


async def _apply(connection: Any, migration: Migration, schema: str) -> None:
    if not migration.wrapped:
        await connection.execute(migration.sql)
        await _record(connection, migration, schema)
        return
    async with connection.transaction():
        await connection.execute(migration.sql)
        await _record(connection, migration, schema)


async def _record(connection: Any, migration: Migration, schema: str) -> None:
    if migration.version is None:
        await connection.execute(
            f"INSERT INTO {identifier(schema)}.schema_functions (name, checksum) VALUES ($1, $2)"  # noqa: S608 - quoted
            " ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = now()",
            migration.name,
            migration.checksum,
        )
    else:
        await connection.execute(
            f"INSERT INTO {identifier(schema)}.schema_migrations (version, name, checksum)"  # noqa: S608 - quoted
            " VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
