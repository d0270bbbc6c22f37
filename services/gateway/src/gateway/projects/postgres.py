"""Projects in the schema identity."""

from typing import Any

import asyncpg
from chassis.postgres import Database

from gateway.audit.model import AuditEntry
from gateway.audit.postgres import insert_entry
from gateway.projects.model import Project, ProjectExists
from gateway.tenants.postgres import select_tenant, tenant_not_found
from gateway.web.pagination import Page, PageRequest, rows_to_page

# Ids grow with time, so the order of ids is the order of creation.
LIST_PROJECTS = """
    SELECT * FROM projects WHERE tenant_id = $1 AND ($2 = '' OR project_id < $2) ORDER BY project_id DESC LIMIT $3
"""


class PostgresProjects:
    """`ProjectStore` on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_project(self, project: Project, entry: AuditEntry) -> None:
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
                raise tenant_not_found(project.tenant_id) from None
            await insert_entry(connection, entry)

    async def find_project(self, tenant_id: str, name: str) -> Project | None:
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM projects WHERE tenant_id = $1 AND name = $2", tenant_id, name
            )
        return None if row is None else row_to_project(row)

    async def list_projects(self, tenant_id: str, page: PageRequest) -> Page[Project]:
        async with self._database.tenant(tenant_id) as connection:
            await select_tenant(connection, tenant_id)
            rows = await connection.fetch(LIST_PROJECTS, tenant_id, page.after, page.limit + 1)
        return rows_to_page(rows, page, row_to_project)


def row_to_project(row: Any) -> Project:
    return Project(row["tenant_id"], row["project_id"], row["name"], row["created_at"])
