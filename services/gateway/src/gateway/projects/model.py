"""Projects: parts of a tenant that API keys belong to."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chassis.errors import ArgosyError, Kind

from gateway.audit.model import AuditEntry
from gateway.web.pagination import Page, PageRequest

DEFAULT_PROJECT = "default"


class ProjectNotFound(ArgosyError):
    """The tenant has no such project."""

    kind, reason = Kind.NOT_FOUND, "PROJECT_NOT_FOUND"


class ProjectExists(ArgosyError):
    """The tenant has a project of this name."""

    kind, reason = Kind.CONFLICT, "PROJECT_EXISTS"


@dataclass(frozen=True, slots=True)
class Project:
    """Its name is unique within its tenant."""

    tenant_id: str
    project_id: str
    name: str
    created_at: datetime


class ProjectStore(Protocol):
    """Keeps projects. A write and its audit entry are one transaction."""

    async def add_project(self, project: Project, entry: AuditEntry) -> None:
        """Raises TenantNotFound, or ProjectExists when the name is taken."""
        ...

    async def find_project(self, tenant_id: str, name: str) -> Project | None:
        """Find a project by its name."""
        ...

    async def list_projects(self, tenant_id: str, page: PageRequest) -> Page[Project]:
        """Raises TenantNotFound."""
        ...
