"""Readiness of a database: not only that it answers, but that everything which the service relies on works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from chassis.errors import Unavailable
from chassis.postgres.database import ALL_TENANTS, Database
from chassis.postgres.failures import explain
from chassis.postgres.migrate import load

PROBE_TENANT = "readiness-check"  # no tenant has this id
TENANT_SETTING = "argosy.tenant"

DIFFERENT_SETTINGS = """
SELECT name FROM unnest($1::text[], $2::text[]) AS expected (name, value)
WHERE CASE
    WHEN name LIKE '%timeout' THEN current_setting(name, true)::interval IS DISTINCT FROM value::interval
    ELSE current_setting(name, true) IS DISTINCT FROM value
END
"""
NEWEST_MIGRATION = "SELECT max(version) AS version FROM schema_migrations"


def readiness_check(database: Database, migrations: Path | None = None) -> Callable[[], Awaitable[None]]:
    """Make a check that raises `Unavailable` with what is missing.

    Postgres answers; start-up parameters are in force on both kinds of connections; the tenant set by a transaction
    is seen by its statements; and the newest file in `migrations` has been applied. A newer schema is accepted, because
    it is migrated before its service is rolled out.
    """
    newest = max((migration.version or 0 for migration in load(migrations)), default=0) if migrations else 0

    async def check() -> None:
        try:
            async with database.tenant(PROBE_TENANT) as connection:
                await _check_settings(connection, database.session_settings, PROBE_TENANT)
        except Unavailable as error:
            if (sentence := explain(error.__cause__)) is not None:
                raise Unavailable(sentence) from error.__cause__
            raise
        await _check_settings(database.system(), database.session_settings, ALL_TENANTS)
        if newest:
            await _check_schema(database, newest)

    return check


async def _check_settings(executor: Any, settings: dict[str, str], tenant: str) -> None:
    expected = {**settings, TENANT_SETTING: tenant}
    rows = await executor.fetch(DIFFERENT_SETTINGS, list(expected), list(expected.values()))
    different = [row["name"] for row in rows]
    if different == [TENANT_SETTING]:
        raise Unavailable(f"the setting {TENANT_SETTING} does not hold: row-level security would hide all rows")
    if different:
        raise Unavailable(
            f"the start-up parameters {', '.join(different)} are not in force: a connection pooler drops them; set"
            " POSTGRES__POOLING=transaction, or connect to Postgres itself or through a pooler that keeps sessions"
        )


async def _check_schema(database: Database, newest: int) -> None:
    try:
        ((applied,),) = await database.system().fetch(NEWEST_MIGRATION)
    except asyncpg.UndefinedTableError:
        applied = None
    if applied is None:
        raise Unavailable("the schema has no migrations: run the command `migrate`")
    if applied < newest:
        raise Unavailable(f"the schema is at migration {applied:04}, and this version needs {newest:04}: run `migrate`")
