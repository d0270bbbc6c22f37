"""Tenants, their projects, and the trail of who changed what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from chassis.errors import ArgosyError, Kind

from .keys import ApiKey

T = TypeVar("T")

DEFAULT_PLAN = "standard"
DEFAULT_PROJECT = "default"


class TenantNotFound(ArgosyError):
    """There is no such tenant."""

    kind = Kind.NOT_FOUND
    reason = "TENANT_NOT_FOUND"


class TenantExists(ArgosyError):
    """A tenant of this name exists."""

    kind = Kind.CONFLICT
    reason = "TENANT_EXISTS"


class ProjectNotFound(ArgosyError):
    """The tenant has no such project."""

    kind = Kind.NOT_FOUND
    reason = "PROJECT_NOT_FOUND"


class ProjectExists(ArgosyError):
    """The tenant has a project of this name."""

    kind = Kind.CONFLICT
    reason = "PROJECT_EXISTS"


class KeyNotFound(ArgosyError):
    """There is no such key."""

    kind = Kind.NOT_FOUND
    reason = "KEY_NOT_FOUND"


class KeyExists(ArgosyError):
    """A key with this id exists."""

    kind = Kind.CONFLICT
    reason = "KEY_EXISTS"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer of the installation."""

    tenant_id: str
    name: str
    plan: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Project:
    """A part of a tenant that keys belong to."""

    tenant_id: str
    project_id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One administrative write: who did what to which object of which tenant."""

    tenant_id: str
    entry_id: str
    action: str
    target: str
    actor_tenant_id: str
    actor_key_id: str
    request_id: str
    detail: Mapping[str, str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: at most `limit` records older than the record `after`."""

    limit: int = 20
    after: str = ""


@dataclass(frozen=True)
class Listed(Generic[T]):
    """A part of a list, newest first, and whether there is more."""

    items: Sequence[T]
    has_more: bool = False


class Directory(Protocol):
    """Tenants, projects, keys and audit on record; each write and its audit entry stand or fall together."""

    async def add_tenant(self, tenant: Tenant, entry: AuditEntry) -> None:
        """Raises TenantExists when the name is taken."""
        ...

    async def get_tenant(self, tenant_id: str) -> Tenant:
        """Raises TenantNotFound."""
        ...

    async def find_tenant(self, name: str) -> Tenant | None:
        """Find by name."""
        ...

    async def list_tenants(self, page: Page) -> Listed[Tenant]:
        """All tenants, newest first."""
        ...

    async def add_project(self, project: Project, entry: AuditEntry) -> None:
        """Raises TenantNotFound, or ProjectExists when the tenant has one of this name."""
        ...

    async def find_project(self, tenant_id: str, name: str) -> Project | None:
        """Find by name."""
        ...

    async def list_projects(self, tenant_id: str, page: Page) -> Listed[Project]:
        """A tenant's projects. Raises TenantNotFound."""
        ...

    async def add_key(self, key: ApiKey, entry: AuditEntry) -> None:
        """Raises ProjectNotFound, or KeyExists."""
        ...

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Find in any tenant, with the tenant's plan."""
        ...

    async def list_keys(self, tenant_id: str, page: Page) -> Listed[ApiKey]:
        """A tenant's keys, the revoked ones too. Raises TenantNotFound."""
        ...

    async def revoke_key(self, tenant_id: str, key_id: str, at: datetime, entry: AuditEntry) -> ApiKey:
        """Revoke for good; the first instant stays when repeated. Raises KeyNotFound."""
        ...

    async def record(self, entry: AuditEntry) -> None:
        """Keep the trail of a write that happens in another service. Raises TenantNotFound."""
        ...

    async def list_audit(self, tenant_id: str, page: Page) -> Listed[AuditEntry]:
        """What was done to a tenant. Raises TenantNotFound."""
        ...
