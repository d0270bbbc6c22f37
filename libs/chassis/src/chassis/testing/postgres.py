"""Databases that exist for one test session, on the real Postgres that ARGOSY_POSTGRES_DSN names (as a superuser)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from chassis.ids import new_id
from chassis.postgres import drop_database, migrate, provision
from chassis.settings import PostgresSection


class MissingPostgres(Exception):
    """ARGOSY_POSTGRES_DSN is not set."""


def role_password(dsn: str) -> str:
    """The password of the services' roles where nobody chose one: it follows from the superuser's in `dsn`.

    Roles belong to the whole cluster, and the dev fleet and other test sessions use them at the same time: a password
    of one's own would lock them out.
    """
    return hashlib.sha256(f"roles of argosy {urlsplit(dsn).password}".encode()).hexdigest()


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
    password = role_password(dsn)
    made = await provision(
        dsn, database, service, schema, app_password=password, owner_password=password, extensions=extensions
    )
    try:
        if folder is not None:
            await migrate(made.owner_dsn, folder, schema)
        yield PostgresSection(dsn=SecretStr(made.dsn), owner_dsn=SecretStr(made.owner_dsn), pool_size=pool_size)
    finally:
        await drop_database(dsn, database)
