"""Tenants: the customers of the installation."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chassis.errors import ArgosyError, Kind

from gateway.audit.model import AuditEntry
from gateway.web.pagination import Page, PageRequest

DEFAULT_PLAN = "standard"


class TenantNotFound(ArgosyError):
    """There is no such tenant."""

    kind, reason = Kind.NOT_FOUND, "TENANT_NOT_FOUND"


class TenantExists(ArgosyError):
    """A tenant of this name exists."""

    kind, reason = Kind.CONFLICT, "TENANT_EXISTS"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Its name is unique in the installation."""

    tenant_id: str
    name: str
    plan: str
    created_at: datetime


class TenantStore(Protocol):
    """Keeps tenants. A write and its audit entry are one transaction."""

    async def add_tenant(self, tenant: Tenant, entry: AuditEntry) -> None:
        """Raises TenantExists when the name is taken."""
        ...

    async def get_tenant(self, tenant_id: str) -> Tenant:
        """Raises TenantNotFound."""
        ...

    async def find_tenant(self, name: str) -> Tenant | None:
        """Find a tenant by its name."""
        ...

    async def list_tenants(self, page: PageRequest) -> Page[Tenant]:
        """All tenants."""
        ...
