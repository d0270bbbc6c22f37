"""Databases for one test session, on the Postgres of ARGOSY_POSTGRES_DSN (a superuser's connection URL)."""

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
    """Derive the password of the services' roles from the superuser's in `dsn`.

    Roles belong to the whole cluster, and the dev fleet and other test sessions use them at the same time: a random
    password would lock them out.
    """
    return hashlib.sha256(f"roles of argosy {urlsplit(dsn).password}".encode()).hexdigest()


def with_port(dsn: str, port: int) -> str:
    """Return the URL with another port."""
    return dsn.replace(f":{urlsplit(dsn).port}/", f":{port}/")


def superuser_dsn() -> str:
    """Return the DSN of the environment, or raise `MissingPostgres`."""
    dsn = os.environ.get("ARGOSY_POSTGRES_DSN")
    if not dsn:
        raise MissingPostgres("ARGOSY_POSTGRES_DSN is not set; see CONTRIBUTING.md")
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
    """Create a database with the roles, the schema and the migrations of a service; drop it at the end.

    `service` names the roles (`<service>_app`, `<service>_owner`); by default it is the schema's name. The app role
    connects through the pooler of transactions on the port ARGOSY_POSTGRES_POOLER, where that is set.
    """
    dsn = superuser_dsn()
    database = new_id("test_")
    service = service or schema
    password = role_password(dsn)
    provisioned = await provision(
        dsn, database, service, schema, app_password=password, owner_password=password, extensions=extensions
    )
    try:
        if folder is not None:
            await migrate(provisioned.owner_dsn, folder, schema)
        pooler = os.environ.get("ARGOSY_POSTGRES_POOLER")
        yield PostgresSection(
            dsn=SecretStr(with_port(provisioned.dsn, int(pooler)) if pooler else provisioned.dsn),
            owner_dsn=SecretStr(provisioned.owner_dsn),
            pooling="transaction" if pooler else "session",
            pool_size=pool_size,
        )
    finally:
        await drop_database(dsn, database)
