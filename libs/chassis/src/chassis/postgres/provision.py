"""Creation of a service's database, roles and schema by a superuser; for development and tests."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from chassis.postgres.failures import CONNECT_ERRORS, unavailable
from chassis.postgres.quoting import identifier, literal

CONNECT_TIMEOUT_SECONDS = 10.0
LOCK = int.from_bytes(hashlib.sha256(b"argosy provision").digest()[:8], signed=True)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Connection URLs of the app role (`dsn`) and of the role that runs migrations (`owner_dsn`)."""

    dsn: str
    owner_dsn: str


async def provision(
    superuser_dsn: str,
    database: str,
    service: str,
    schema: str,
    *,
    app_password: str,
    owner_password: str,
    extensions: tuple[str, ...] = (),
) -> Provisioned:
    """Create `database`, the roles `<service>_owner` and `<service>_app`, and `schema` where they are missing.

    It may run repeatedly and concurrently. The passwords of the roles are set each time; `extensions` are created in
    the schema public. Raises `Unavailable` when Postgres does not answer.
    """
    owner, app = f"{service}_owner", f"{service}_app"
    async with _superuser(superuser_dsn) as connection:
        # Roles and databases belong to the whole cluster: creating the same one concurrently fails in both processes.
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await _ensure_role(connection, owner, owner_password)
        await _ensure_role(connection, app, app_password)
        await _ensure_database(connection, database, owner, app)
        async with _superuser(with_database(superuser_dsn, database)) as inside:
            await _ensure_schema(inside, database, schema, owner, app)
            for extension in extensions:
                await inside.execute(f"CREATE EXTENSION IF NOT EXISTS {identifier(extension)} SCHEMA public")
    inside_dsn = with_database(superuser_dsn, database)
    return Provisioned(with_user(inside_dsn, app, app_password), with_user(inside_dsn, owner, owner_password))


async def drop_database(superuser_dsn: str, database: str) -> None:
    """Drop `database` and close its connections; the roles stay."""
    async with _superuser(superuser_dsn) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {identifier(database)} WITH (FORCE)")


async def _ensure_role(connection: Any, role: str, password: str) -> None:
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if exists else "CREATE"
    await connection.execute(
        f"{verb} ROLE {identifier(role)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"
        f" PASSWORD {literal(password)}"
    )


async def _ensure_database(connection: Any, database: str, owner: str, app: str) -> None:
    name = identifier(database)
    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
        # Collation C: ids and keys sort by byte, the same on every machine.
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
        await connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    await connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {identifier(owner)}, {identifier(app)}")


async def _ensure_schema(connection: Any, database: str, schema: str, owner: str, app: str) -> None:
    name, owner_name, app_name = identifier(schema), identifier(owner), identifier(app)
    await connection.execute(
        f"""
        CREATE SCHEMA IF NOT EXISTS {name} AUTHORIZATION {owner_name};
        GRANT USAGE ON SCHEMA {name} TO {app_name};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner_name} IN SCHEMA {name}
            GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app_name};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner_name} IN SCHEMA {name} GRANT USAGE ON SEQUENCES TO {app_name};
        """
    )
    for role in (owner_name, app_name):
        await connection.execute(
            f"ALTER ROLE {role} IN DATABASE {identifier(database)} SET search_path TO {name}, public"
        )


@asynccontextmanager
async def _superuser(dsn: str) -> AsyncIterator[Any]:
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_SECONDS)
    except CONNECT_ERRORS as error:
        raise unavailable("the superuser", error) from error
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)


def with_database(dsn: str, database: str) -> str:
    """Replace the database in `dsn`."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{quote(database, safe='')}"))


def with_user(dsn: str, user: str, password: str) -> str:
    """Replace user and password in `dsn`."""
    parts = urlsplit(dsn)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{address}"))
