"""The directory of tenants, projects, keys and audit, in the schema identity."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
from chassis.postgres import Database

from gateway.domain.keys import ApiKey
from gateway.domain.tenants import (
    AuditEntry,
    KeyExists,
    KeyNotFound,
    Listed,
    Page,
    Project,
    ProjectExists,
    ProjectNotFound,
    Tenant,
    TenantExists,
    TenantNotFound,
)

from .mapping import from_audit_row, from_key_row, from_project_row, from_tenant_row, to_audit_row, to_key_row

T = TypeVar("T")

INSERT_KEY = """
    INSERT INTO api_keys
        (tenant_id, key_id, project_id, name, env, sha256, roles, created_at, expires_at, revoked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
INSERT_AUDIT = """
    INSERT INTO audit
        (tenant_id, entry_id, action, target, actor_tenant_id, actor_key_id, request_id, detail, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
FIND_KEY = "SELECT k.*, t.plan FROM api_keys k JOIN tenants t USING (tenant_id) WHERE k.key_id = $1"
REVOKE = "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL"

# Ids grow with time, so the newest come first by id alone.
LIST_TENANTS = """
    SELECT * FROM tenants WHERE $1 = '*' AND ($2 = '' OR tenant_id < $2) ORDER BY tenant_id DESC LIMIT $3
"""
LIST_PROJECTS = """
    SELECT * FROM projects WHERE tenant_id = $1 AND ($2 = '' OR project_id < $2) ORDER BY project_id DESC LIMIT $3
"""
LIST_KEYS = """
    SELECT k.*, t.plan FROM api_keys k JOIN tenants t USING (tenant_id)
    WHERE k.tenant_id = $1 AND ($2 = '' OR k.key_id < $2) ORDER BY k.key_id DESC LIMIT $3
"""
LIST_AUDIT = """
    SELECT * FROM audit WHERE tenant_id = $1 AND ($2 = '' OR entry_id < $2) ORDER BY entry_id DESC LIMIT $3
"""


class PostgresDirectory:
    """`Directory` and `Keys` on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_tenant(self, tenant: Tenant, entry: AuditEntry) -> None:
        """Raises TenantExists when the name is taken."""
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
            await _record(connection, entry)

    async def get_tenant(self, tenant_id: str) -> Tenant:
        """Raises TenantNotFound."""
        async with self._database.tenant(tenant_id) as connection:
            return await _get_tenant(connection, tenant_id)

    async def find_tenant(self, name: str) -> Tenant | None:
        """Find by name."""
        async with self._database.system() as connection:
            row = await connection.fetchrow("SELECT * FROM tenants WHERE name = $1", name)
        return None if row is None else from_tenant_row(row)

    async def list_tenants(self, page: Page) -> Listed[Tenant]:
        """All tenants, newest first."""
        async with self._database.system() as connection:
            return await _listed(connection, LIST_TENANTS, "*", page, from_tenant_row)

    async def add_project(self, project: Project, entry: AuditEntry) -> None:
        """Raises TenantNotFound, ProjectExists."""
        async with self._database.tenant(project.tenant_id) as connection:
            try:
                await connection.execute(
                    "INSERT INTO projects (tenant_id, project_id, name, created_at) VALUES ($1, $2, $3, $4)",
                    project.tenant_id,
                    project.project_id,
                    project.name,
                    project.created_at,
                )
            except asyncpg.UniqueViolationError:
                raise ProjectExists(f"The tenant has a project named {project.name}.", param="name") from None
            except asyncpg.ForeignKeyViolationError:
                raise _no_tenant(project.tenant_id) from None
            await _record(connection, entry)

    async def find_project(self, tenant_id: str, name: str) -> Project | None:
        """Find by name."""
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM projects WHERE tenant_id = $1 AND name = $2", tenant_id, name
            )
        return None if row is None else from_project_row(row)

    async def list_projects(self, tenant_id: str, page: Page) -> Listed[Project]:
        """Raises TenantNotFound."""
        return await self._list_of_tenant(LIST_PROJECTS, tenant_id, page, from_project_row)

    async def add_key(self, key: ApiKey, entry: AuditEntry) -> None:
        """Raises ProjectNotFound, KeyExists."""
        async with self._database.tenant(key.tenant_id) as connection:
            try:
                await connection.execute(INSERT_KEY, *to_key_row(key))
            except asyncpg.UniqueViolationError:
                raise KeyExists(f"There is a key {key.key_id}.") from None
            except asyncpg.ForeignKeyViolationError:
                raise ProjectNotFound(f"The tenant has no project {key.project_id}.", param="project_id") from None
            await _record(connection, entry)

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Find in any tenant: a key says its own id, not its tenant's."""
        async with self._database.system() as connection:
            row = await connection.fetchrow(FIND_KEY, key_id)
        return None if row is None else from_key_row(row)

    async def list_keys(self, tenant_id: str, page: Page) -> Listed[ApiKey]:
        """Raises TenantNotFound."""
        return await self._list_of_tenant(LIST_KEYS, tenant_id, page, from_key_row)

    async def revoke_key(self, tenant_id: str, key_id: str, at: datetime, entry: AuditEntry) -> ApiKey:
        """Raises KeyNotFound."""
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(REVOKE, tenant_id, key_id, at)
            row = await connection.fetchrow(FIND_KEY, key_id)
            if row is None:
                raise KeyNotFound(f"There is no key {key_id}.")
            await _record(connection, entry)
        return from_key_row(row)

    async def record(self, entry: AuditEntry) -> None:
        """Keep an audit entry of its own. Raises TenantNotFound."""
        async with self._database.tenant(entry.tenant_id) as connection:
            await _get_tenant(connection, entry.tenant_id)
            await _record(connection, entry)

    async def list_audit(self, tenant_id: str, page: Page) -> Listed[AuditEntry]:
        """Raises TenantNotFound."""
        return await self._list_of_tenant(LIST_AUDIT, tenant_id, page, from_audit_row)

    async def _list_of_tenant(self, query: str, tenant_id: str, page: Page, from_row: Callable[[Any], T]) -> Listed[T]:
        async with self._database.tenant(tenant_id) as connection:
            await _get_tenant(connection, tenant_id)
            return await _listed(connection, query, tenant_id, page, from_row)


async def _listed(connection: Any, query: str, tenant_id: str, page: Page, from_row: Callable[[Any], T]) -> Listed[T]:
    rows = await connection.fetch(query, tenant_id, page.after, page.limit + 1)
    return Listed([from_row(row) for row in rows[: page.limit]], has_more=len(rows) > page.limit)


async def _get_tenant(connection: Any, tenant_id: str) -> Tenant:
    row = await connection.fetchrow("SELECT * FROM tenants WHERE tenant_id = $1", tenant_id)
    if row is None:
        raise _no_tenant(tenant_id)
    return from_tenant_row(row)


async def _record(connection: Any, entry: AuditEntry) -> None:
    await connection.execute(INSERT_AUDIT, *to_audit_row(entry))


def _no_tenant(tenant_id: str) -> TenantNotFound:
    return TenantNotFound(f"There is no tenant {tenant_id}.", param="tenant_id")
