"""What an administrator does: tenants, projects, keys. Each write needs the role "admin" and leaves an audit entry."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.ids import new_id
from chassis.tenancy import Caller

from .keys import ApiKey, PresentedKey, environment_of, mint_key, parse_key
from .tenants import (
    DEFAULT_PLAN,
    DEFAULT_PROJECT,
    AuditEntry,
    Directory,
    KeyExists,
    KeyNotFound,
    Project,
    ProjectExists,
    Tenant,
    TenantExists,
)

ADMIN = "admin"
MEMBER = "member"
ROLES = frozenset({ADMIN, MEMBER})
PLATFORM = "platform"  # the tenant of those who run the installation
DEMO = "demo"


class Revocations(Protocol):
    """How every gateway of the fleet learns that a key is no longer good."""

    async def announce(self, key_id: str) -> None:
        """Tell all. Never raises: what cannot be told now is told as soon as it can be."""
        ...


class Administration:
    """The writes of `/admin/v1`."""

    def __init__(self, directory: Directory, revocations: Revocations, clock: Clock, *, env: str) -> None:
        self._directory = directory
        self._revocations = revocations
        self._clock = clock
        self._env = env

    async def create_tenant(self, caller: Caller, name: str, plan: str = DEFAULT_PLAN) -> Tenant:
        """Raises TenantExists."""
        caller.principal.require(ADMIN)
        tenant = Tenant(new_id("ten_"), name, plan, self._clock.now())
        entry = self._entry(caller, tenant.tenant_id, "tenant.create", tenant.tenant_id, name=name, plan=plan)
        await self._directory.add_tenant(tenant, entry)
        return tenant

    async def create_project(self, caller: Caller, tenant_id: str, name: str) -> Project:
        """Raises TenantNotFound, ProjectExists."""
        caller.principal.require(ADMIN)
        project = Project(tenant_id, new_id("prj_"), name, self._clock.now())
        entry = self._entry(caller, tenant_id, "project.create", project.project_id, name=name)
        await self._directory.add_project(project, entry)
        return project

    async def create_key(
        self,
        caller: Caller,
        tenant_id: str,
        project_id: str,
        *,
        name: str = "",
        roles: Iterable[str] = (MEMBER,),
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; its text is answered here and never again. Raises ProjectNotFound, InvalidRequest."""
        caller.principal.require(ADMIN)
        granted = frozenset(roles)
        if not granted or granted - ROLES:
            raise InvalidRequest(f"roles must be some of {', '.join(sorted(ROLES))}.", param="roles")
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest("expires_at must lie in the future.", param="expires_at")
        presented, text = mint_key(self._env)
        key = ApiKey(
            tenant_id=tenant_id,
            project_id=project_id,
            key_id=presented.key_id,
            name=name,
            env=self._env,
            roles=granted,
            created_at=now,
            sha256=presented.sha256,
            expires_at=expires_at,
        )
        entry = self._entry(
            caller, tenant_id, "key.create", key.key_id, project_id=project_id, roles=",".join(sorted(granted))
        )
        await self._directory.add_key(key, entry)
        return key, text

    async def revoke_key(self, caller: Caller, key_id: str) -> ApiKey:
        """Refuse a key in the whole fleet from now on; safe to repeat. Raises KeyNotFound."""
        caller.principal.require(ADMIN)
        found = await self._directory.find_key(key_id)
        if found is None:
            raise KeyNotFound(f"There is no key {key_id}.")
        entry = self._entry(caller, found.tenant_id, "key.revoke", key_id)
        revoked = await self._directory.revoke_key(found.tenant_id, key_id, self._clock.now(), entry)
        await self._revocations.announce(key_id)
        return revoked

    async def note(self, caller: Caller, tenant_id: str, action: str, target: str, **detail: str) -> None:
        """Leave the trail of a write that another service does: before it, so that none goes unrecorded."""
        caller.principal.require(ADMIN)
        await self._directory.record(self._entry(caller, tenant_id, action, target, **detail))

    def _entry(self, caller: Caller, tenant_id: str, action: str, target: str, **detail: str) -> AuditEntry:
        return AuditEntry(
            tenant_id=tenant_id,
            entry_id=new_id("evt_"),
            action=action,
            target=target,
            actor_tenant_id=caller.principal.tenant_id,
            actor_key_id=caller.principal.key_id,
            request_id=caller.request_id,
            detail=detail,
            created_at=self._clock.now(),
        )


class Bootstrap:
    """The first tenants and keys of an installation; may run at every start, on every replica at once."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    async def ensure(self, tenant_name: str, key_text: str, roles: Iterable[str]) -> ApiKey:
        """Make sure that a tenant, its default project and this key exist. Raises InvalidApiKey, InvalidRequest."""
        presented = parse_key(key_text.encode())
        tenant = await self._ensure_tenant(tenant_name)
        project = await self._ensure_project(tenant)
        key = await self._ensure_key(self._key(tenant, project, presented, environment_of(key_text), roles))
        if key.sha256 != presented.sha256 or key.tenant_id != tenant.tenant_id:
            raise InvalidRequest(f"The key of {tenant_name} has the id of another key; mint a new one.")
        return key

    async def _ensure_tenant(self, name: str) -> Tenant:
        found = await self._directory.find_tenant(name)
        if found is not None:
            return found
        tenant = Tenant(new_id("ten_"), name, DEFAULT_PLAN, self._clock.now())
        try:
            await self._directory.add_tenant(tenant, self._entry(tenant.tenant_id, "tenant.create", tenant.tenant_id))
        except TenantExists:
            return await self._ensure_tenant(name)  # another replica was faster
        return tenant

    async def _ensure_project(self, tenant: Tenant) -> Project:
        found = await self._directory.find_project(tenant.tenant_id, DEFAULT_PROJECT)
        if found is not None:
            return found
        project = Project(tenant.tenant_id, new_id("prj_"), DEFAULT_PROJECT, self._clock.now())
        try:
            await self._directory.add_project(
                project, self._entry(tenant.tenant_id, "project.create", project.project_id)
            )
        except ProjectExists:
            return await self._ensure_project(tenant)
        return project

    async def _ensure_key(self, key: ApiKey) -> ApiKey:
        found = await self._directory.find_key(key.key_id)
        if found is not None:
            return found
        try:
            await self._directory.add_key(key, self._entry(key.tenant_id, "key.create", key.key_id))
        except KeyExists:
            return await self._ensure_key(key)
        return key

    def _key(self, tenant: Tenant, project: Project, presented: PresentedKey, env: str, roles: Iterable[str]) -> ApiKey:
        return ApiKey(
            tenant_id=tenant.tenant_id,
            project_id=project.project_id,
            key_id=presented.key_id,
            name="bootstrap",
            env=env,
            roles=frozenset(roles),
            created_at=self._clock.now(),
            sha256=presented.sha256,
            plan=tenant.plan,
        )

    def _entry(self, tenant_id: str, action: str, target: str) -> AuditEntry:
        return AuditEntry(
            tenant_id=tenant_id,
            entry_id=new_id("evt_"),
            action=action,
            target=target,
            actor_tenant_id="",
            actor_key_id="",
            request_id="",
            detail={"by": "bootstrap"},
            created_at=self._clock.now(),
        )
