"""A connection of the schema's owner, for commands that an operator runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from chassis.postgres.database import ALL_TENANTS, CONNECT_TIMEOUT_SECONDS
from chassis.postgres.failures import CONNECT_ERRORS, unavailable
from chassis.postgres.quoting import identifier


@asynccontextmanager
async def owner_connection(dsn: str, schema: str) -> AsyncIterator[Any]:
    """Connect to `schema` as its owner, without time limits and outside of a transaction. It sees all tenants.

    Raises `Unavailable` when Postgres does not answer.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={
                "application_name": f"owner of {schema}",
                "lock_timeout": "0",
                "statement_timeout": "0",
                "search_path": f"{identifier(schema)}, public",
                "argosy.tenant": ALL_TENANTS,
            },
        )
    except CONNECT_ERRORS as error:
        raise unavailable(schema, error) from error
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)
