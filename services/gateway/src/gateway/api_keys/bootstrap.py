"""Create the first tenants and keys of an installation. Idempotent, also when replicas do it at the same time."""

from collections.abc import Iterable

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.ids import new_id

from gateway.api_keys.model import ApiKeyStore, KeyExists
from gateway.audit.model import bootstrap_entry
from gateway.auth.api_key import ApiKey, environment_of, parse_key
from gateway.projects.model import DEFAULT_PROJECT, Project, ProjectExists, ProjectStore
from gateway.tenants.model import DEFAULT_PLAN, Tenant, TenantExists, TenantStore


class Bootstrap:
    """Each record is looked up, added when it is missing, and looked up again when another replica added it first."""

    def __init__(self, tenants: TenantStore, projects: ProjectStore, keys: ApiKeyStore, clock: Clock) -> None:
        self._tenants = tenants
        self._projects = projects
        self._keys = keys
        self._clock = clock

    async def ensure(self, tenant_name: str, key_text: str, roles: Iterable[str]) -> ApiKey:
        """Ensure that a tenant, its default project and this key exist. Raises InvalidApiKey, InvalidRequest."""
        parsed = parse_key(key_text.encode())
        tenant = await self._ensure_tenant(tenant_name)
        project = await self._ensure_project(tenant)
        key = await self._ensure_key(
            ApiKey(
                tenant_id=tenant.tenant_id,
                project_id=project.project_id,
                key_id=parsed.key_id,
                name="bootstrap",
                env=environment_of(key_text),
                roles=frozenset(roles),
                created_at=self._clock.now(),
                sha256=parsed.sha256,
                plan=tenant.plan,
            )
        )
        if key.sha256 != parsed.sha256 or key.tenant_id != tenant.tenant_id:
            raise InvalidRequest(f"The key of {tenant_name} has the id of another key; mint a new one.")
        return key

    async def _ensure_tenant(self, name: str) -> Tenant:
        found = await self._tenants.find_tenant(name)
        if found is not None:
            return found
        tenant = Tenant(new_id("ten_"), name, DEFAULT_PLAN, self._clock.now())
        entry = bootstrap_entry(tenant.created_at, tenant.tenant_id, "tenant.create", tenant.tenant_id)
        try:
            await self._tenants.add_tenant(tenant, entry)
        except TenantExists:
            return await self._ensure_tenant(name)
        return tenant

    async def _ensure_project(self, tenant: Tenant) -> Project:
        found = await self._projects.find_project(tenant.tenant_id, DEFAULT_PROJECT)
        if found is not None:
            return found
        project = Project(tenant.tenant_id, new_id("prj_"), DEFAULT_PROJECT, self._clock.now())
        entry = bootstrap_entry(project.created_at, tenant.tenant_id, "project.create", project.project_id)
        try:
            await self._projects.add_project(project, entry)
        except ProjectExists:
            return await self._ensure_project(tenant)
        return project

    async def _ensure_key(self, key: ApiKey) -> ApiKey:
        found = await self._keys.find_key(key.key_id)
        if found is not None:
            return found
        try:
            await self._keys.add_key(key, bootstrap_entry(key.created_at, key.tenant_id, "key.create", key.key_id))
        except KeyExists:
            return await self._ensure_key(key)
        return key
