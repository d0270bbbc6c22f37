"""The store of API keys. Their format and record are in `auth.api_key`."""

from datetime import datetime
from typing import Protocol

from chassis.errors import ArgosyError, Kind

from gateway.audit.model import AuditEntry
from gateway.auth.api_key import ApiKey
from gateway.web.pagination import Page, PageRequest


class KeyNotFound(ArgosyError):
    """There is no such key."""

    kind, reason = Kind.NOT_FOUND, "KEY_NOT_FOUND"


class KeyExists(ArgosyError, public=False):
    """A key with this id exists."""

    kind, reason = Kind.CONFLICT, "KEY_EXISTS"


class ApiKeyStore(Protocol):
    """Keeps API keys. A write and its audit entry are one transaction."""

    async def add_key(self, key: ApiKey, entry: AuditEntry) -> None:
        """Raises ProjectNotFound, KeyExists."""
        ...

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Find a key of any tenant, with the tenant's plan. Raises Unavailable."""
        ...

    async def list_keys(self, tenant_id: str, page: PageRequest) -> Page[ApiKey]:
        """A tenant's keys, revoked ones included. Raises TenantNotFound."""
        ...

    async def revoke_key(self, tenant_id: str, key_id: str, at: datetime, entry: AuditEntry) -> ApiKey:
        """Revoke for good; the first `at` stays when repeated. Raises KeyNotFound."""
        ...
