"""The schema identity in memory. The contract suite runs on it and on Postgres."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from chassis.errors import Unavailable
from gateway.api_keys.model import KeyExists, KeyNotFound
from gateway.audit.model import AuditEntry, as_entry_of_actor
from gateway.auth.api_key import ApiKey
from gateway.projects.model import Project, ProjectExists, ProjectNotFound
from gateway.tenants.model import Tenant, TenantExists, TenantNotFound
from gateway.web.pagination import Page, PageRequest

T = TypeVar("T")


class FakeIdentityStore:
    """All stores of the schema identity. While `down`, every call raises Unavailable."""

    def __init__(self) -> None:
        self.down = False
        self.lookups = 0
        self._tenants: dict[str, Tenant] = {}
        self._projects: dict[tuple[str, str], Project] = {}
        self._keys: dict[str, ApiKey] = {}
        self._audit: dict[str, AuditEntry] = {}

    async def add_tenant(self, tenant: Tenant, entry: AuditEntry) -> None:
        self._require_up()
        if any(known.name == tenant.name for known in self._tenants.values()):
            raise TenantExists(f"There is a tenant named {tenant.name}.", param="name")
        self._tenants[tenant.tenant_id] = tenant
        self._audit[entry.entry_id] = entry

    async def get_tenant(self, tenant_id: str) -> Tenant:
        self._require_up()
        if tenant_id not in self._tenants:
            raise TenantNotFound(f"There is no tenant {tenant_id}.", param="tenant_id")
        return self._tenants[tenant_id]

    async def find_tenant(self, name: str) -> Tenant | None:
        self._require_up()
        return next((tenant for tenant in self._tenants.values() if tenant.name == name), None)

    async def list_tenants(self, page: PageRequest) -> Page[Tenant]:
        self._require_up()
        return to_page(self._tenants.values(), page, lambda tenant: tenant.tenant_id)

    async def add_project(self, project: Project, entry: AuditEntry) -> None:
        await self.get_tenant(project.tenant_id)
        if await self.find_project(project.tenant_id, project.name):
            raise ProjectExists(f"The tenant has a project named {project.name}.", param="name")
        self._projects[project.tenant_id, project.project_id] = project
        self._audit[entry.entry_id] = entry

    async def find_project(self, tenant_id: str, name: str) -> Project | None:
        self._require_up()
        mine = (project for (owner, _), project in self._projects.items() if owner == tenant_id)
        return next((project for project in mine if project.name == name), None)

    async def list_projects(self, tenant_id: str, page: PageRequest) -> Page[Project]:
        await self.get_tenant(tenant_id)
        mine = [project for project in self._projects.values() if project.tenant_id == tenant_id]
        return to_page(mine, page, lambda project: project.project_id)

    async def add_key(self, key: ApiKey, entry: AuditEntry) -> None:
        self._require_up()
        if (key.tenant_id, key.project_id) not in self._projects:
            raise ProjectNotFound(f"The tenant has no project {key.project_id}.", param="project_id")
        if key.key_id in self._keys:
            raise KeyExists(f"There is a key {key.key_id}.")
        self._keys[key.key_id] = key
        self._audit[entry.entry_id] = entry

    async def find_key(self, key_id: str) -> ApiKey | None:
        self._require_up()
        self.lookups += 1
        found = self._keys.get(key_id)
        return found and replace(found, plan=self._tenants[found.tenant_id].plan)

    async def list_keys(self, tenant_id: str, page: PageRequest) -> Page[ApiKey]:
        plan = (await self.get_tenant(tenant_id)).plan
        mine = [replace(key, plan=plan) for key in self._keys.values() if key.tenant_id == tenant_id]
        return to_page(mine, page, lambda key: key.key_id)

    async def revoke_key(self, tenant_id: str, key_id: str, at: datetime, entry: AuditEntry) -> ApiKey:
        self._require_up()
        found = self._keys.get(key_id)
        if found is None or found.tenant_id != tenant_id:
            raise KeyNotFound(f"There is no key {key_id}.")
        self._keys[key_id] = replace(found, revoked_at=found.revoked_at or at)
        self._audit[entry.entry_id] = entry
        return replace(self._keys[key_id], plan=self._tenants[tenant_id].plan)

    async def add_entry(self, entry: AuditEntry) -> None:
        await self.get_tenant(entry.tenant_id)
        self._audit[entry.entry_id] = entry

    async def add_refusal(self, entry: AuditEntry) -> None:
        if not self.down:
            known = entry.tenant_id in self._tenants
            self._audit[entry.entry_id] = entry if known else as_entry_of_actor(entry)

    async def set_outcome(self, entry: AuditEntry) -> None:
        if not self.down and self._audit[entry.entry_id].outcome == "unknown":
            self._audit[entry.entry_id] = entry

    async def list_entries(self, tenant_id: str, page: PageRequest) -> Page[AuditEntry]:
        await self.get_tenant(tenant_id)
        mine = [entry for entry in self._audit.values() if entry.tenant_id == tenant_id]
        return to_page(mine, page, lambda entry: entry.entry_id)

    def _require_up(self) -> None:
        if self.down:
            raise Unavailable("the database of gateway does not answer")


def to_page(items: Iterable[T], request: PageRequest, id_of: Callable[[T], str]) -> Page[T]:
    """Newest first, after the id."""
    ordered = sorted(items, key=id_of, reverse=True)
    rest = [item for item in ordered if not request.after or id_of(item) < request.after]
    return Page(rest[: request.limit], has_more=len(rest) > request.limit)
