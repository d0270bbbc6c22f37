"""Databases that exist for one test session, on the real Postgres that ARGOSY_POSTGRES_DSN names (as a superuser)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from chassis.ids import new_id
from chassis.postgres import drop_database, migrate, provision
from chassis.settings import PostgresSection

PASSWORD = "a-password-for-tests"


class MissingPostgres(Exception):
    """ARGOSY_POSTGRES_DSN is not set."""


def superuser_dsn() -> str:
    """Return the DSN of the environment, or raise `MissingPostgres`."""
    dsn = os.environ.get("ARGOSY_POSTGRES_DSN")
    if not dsn:
        raise MissingPostgres("ARGOSY_POSTGRES_DSN names no Postgres; see CONTRIBUTING.md")
    return dsn


@asynccontextmanager
async def scratch_database(
    folder: Path | None,
    schema: str,
    service: str | None = None,
    *,
    extensions: tuple[str, ...] = (),
    pool_size: int = 4,
) -> AsyncIterator[PostgresSection]:
    """Make a database with the roles, the schema and the migrations of a service; drop it at the end.

    `service` names the roles (`<service>_app`, `<service>_owner`); it is the schema's name when left out.
    """
    dsn = superuser_dsn()
    database = new_id("test_")
    service = service or schema
    # The passwords never differ: roles belong to the cluster, and other test sessions use them at the same time.
    made = await provision(
        dsn, database, service, schema, app_password=PASSWORD, owner_password=PASSWORD, extensions=extensions
    )
    try:
        if folder is not None:
            await migrate(made.owner_dsn, folder, schema)
        yield PostgresSection(dsn=SecretStr(made.dsn), owner_dsn=SecretStr(made.owner_dsn), pool_size=pool_size)
    finally:
        await drop_database(dsn, database)
