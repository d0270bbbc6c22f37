"""API keys in the schema identity."""

from datetime import datetime
from typing import Any

import asyncpg
from chassis.postgres import Database

from gateway.api_keys.model import KeyExists, KeyNotFound
from gateway.audit.model import AuditEntry
from gateway.audit.postgres import insert_entry
from gateway.auth.api_key import ApiKey
from gateway.projects.model import ProjectNotFound
from gateway.tenants.postgres import select_tenant
from gateway.web.pagination import Page, PageRequest, rows_to_page

INSERT_KEY = """
    INSERT INTO api_keys
        (tenant_id, key_id, project_id, name, env, sha256, roles, created_at, expires_at, revoked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
FIND_KEY = "SELECT k.*, t.plan FROM api_keys k JOIN tenants t USING (tenant_id) WHERE k.key_id = $1"
REVOKE_KEY = "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL"
# Ids grow with time, so the order of ids is the order of creation.
LIST_KEYS = """
    SELECT k.*, t.plan FROM api_keys k JOIN tenants t USING (tenant_id)
    WHERE k.tenant_id = $1 AND ($2 = '' OR k.key_id < $2) ORDER BY k.key_id DESC LIMIT $3
"""


class PostgresApiKeys:
    """`ApiKeyStore` on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_key(self, key: ApiKey, entry: AuditEntry) -> None:
        async with self._database.tenant(key.tenant_id) as connection:
            try:
                await connection.execute(INSERT_KEY, *key_to_row(key))
            except asyncpg.UniqueViolationError:
                raise KeyExists(f"There is a key {key.key_id}.") from None
            except asyncpg.ForeignKeyViolationError:
                raise ProjectNotFound(f"The tenant has no project {key.project_id}.", param="project_id") from None
            await insert_entry(connection, entry)

    async def find_key(self, key_id: str) -> ApiKey | None:
        # In all tenants: a presented key contains its id, but not its tenant's.
        async with self._database.system() as connection:
            row = await connection.fetchrow(FIND_KEY, key_id)
        return None if row is None else row_to_key(row)

    async def list_keys(self, tenant_id: str, page: PageRequest) -> Page[ApiKey]:
        async with self._database.tenant(tenant_id) as connection:
            await select_tenant(connection, tenant_id)
            rows = await connection.fetch(LIST_KEYS, tenant_id, page.after, page.limit + 1)
        return rows_to_page(rows, page, row_to_key)

    async def revoke_key(self, tenant_id: str, key_id: str, at: datetime, entry: AuditEntry) -> ApiKey:
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(REVOKE_KEY, tenant_id, key_id, at)
            row = await connection.fetchrow(FIND_KEY, key_id)
            if row is None:
                raise KeyNotFound(f"There is no key {key_id}.")
            await insert_entry(connection, entry)
        return row_to_key(row)


def row_to_key(row: Any) -> ApiKey:
    """Read a row of `api_keys` joined with its tenant's plan."""
    return ApiKey(
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        key_id=row["key_id"],
        name=row["name"],
        env=row["env"],
        roles=frozenset(row["roles"]),
        created_at=row["created_at"],
        sha256=row["sha256"],
        plan=row["plan"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


def key_to_row(key: ApiKey) -> tuple[object, ...]:
    """The columns of `api_keys`, in the order of its INSERT."""
    return (
        key.tenant_id,
        key.key_id,
        key.project_id,
        key.name,
        key.env,
        key.sha256,
        sorted(key.roles),
        key.created_at,
        key.expires_at,
        key.revoked_at,
    )
