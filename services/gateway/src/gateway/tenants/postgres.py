"""Tenants in the schema identity."""

from typing import Any

import asyncpg
from chassis.postgres import Database

from gateway.audit.model import AuditEntry
from gateway.audit.postgres import insert_entry
from gateway.tenants.model import Tenant, TenantExists, TenantNotFound
from gateway.web.pagination import Page, PageRequest, rows_to_page

# Ids grow with time, so the order of ids is the order of creation.
LIST_TENANTS = """
    SELECT * FROM tenants WHERE $1 = '*' AND ($2 = '' OR tenant_id < $2) ORDER BY tenant_id DESC LIMIT $3
"""


class PostgresTenants:
    """`TenantStore` on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_tenant(self, tenant: Tenant, entry: AuditEntry) -> None:
        async with self._database.tenant(tenant.tenant_id) as connection:
            try:
                await connection.execute(
                    "INSERT INTO tenants (tenant_id, name, plan, created_at) VALUES ($1, $2, $3, $4)",
                    tenant.tenant_id,
                    tenant.name,
                    tenant.plan,
                    tenant.created_at,
                )
            except asyncpg.UniqueViolationError:
                raise TenantExists(f"There is a tenant named {tenant.name}.", param="name") from None
            await insert_entry(connection, entry)

    async def get_tenant(self, tenant_id: str) -> Tenant:
        async with self._database.tenant(tenant_id) as connection:
            return await select_tenant(connection, tenant_id)

    async def find_tenant(self, name: str) -> Tenant | None:
        async with self._database.system() as connection:
            row = await connection.fetchrow("SELECT * FROM tenants WHERE name = $1", name)
        return None if row is None else row_to_tenant(row)

    async def list_tenants(self, page: PageRequest) -> Page[Tenant]:
        async with self._database.system() as connection:
            rows = await connection.fetch(LIST_TENANTS, "*", page.after, page.limit + 1)
        return rows_to_page(rows, page, row_to_tenant)


async def select_tenant(connection: Any, tenant_id: str) -> Tenant:
    """Read a tenant in a running transaction. Raises TenantNotFound."""
    row = await connection.fetchrow("SELECT * FROM tenants WHERE tenant_id = $1", tenant_id)
    if row is None:
        raise tenant_not_found(tenant_id)
    return row_to_tenant(row)


def tenant_not_found(tenant_id: str) -> TenantNotFound:
    return TenantNotFound(f"There is no tenant {tenant_id}.", param="tenant_id")


def row_to_tenant(row: Any) -> Tenant:
    return Tenant(row["tenant_id"], row["name"], row["plan"], row["created_at"])
