"""What the stores of the schema identity promise, as one fixture `store`: in memory and on Postgres."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest
from chassis.ids import new_id
from gateway.api_keys.model import ApiKeyStore, KeyExists, KeyNotFound
from gateway.audit.model import AuditEntry, AuditLog
from gateway.auth.api_key import ApiKey, mint_key
from gateway.projects.model import Project, ProjectExists, ProjectNotFound, ProjectStore
from gateway.tenants.model import Tenant, TenantExists, TenantNotFound, TenantStore
from gateway.web.pagination import PageRequest


class IdentityStore(TenantStore, ProjectStore, ApiKeyStore, AuditLog, Protocol):
    """All stores in one."""


NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
ALL = PageRequest(limit=1_000)


def a_tenant(name: str | None = None) -> Tenant:
    return Tenant(new_id("ten_"), name or new_id("name "), "standard", NOW)


def a_project(tenant: Tenant, name: str = "web") -> Project:
    return Project(tenant.tenant_id, new_id("prj_"), name, NOW)


def a_key(project: Project) -> ApiKey:
    minted, _ = mint_key("test")
    return ApiKey(
        tenant_id=project.tenant_id,
        project_id=project.project_id,
        key_id=minted.key_id,
        name="server",
        env="test",
        roles=frozenset({"member", "platform_admin"}),
        created_at=NOW,
        sha256=minted.sha256,
        plan="standard",
        expires_at=NOW + timedelta(days=1),
    )


def an_entry(tenant: Tenant, action: str = "test") -> AuditEntry:
    return AuditEntry(tenant.tenant_id, new_id("evt_"), action, "x", "ten_a", "key_a", "req_a", {"b": "ü"}, NOW)


class IdentityStoreContract:
    @pytest.fixture
    async def tenant(self, store: IdentityStore) -> Tenant:
        tenant = a_tenant()
        await store.add_tenant(tenant, an_entry(tenant, "tenant.create"))
        return tenant

    @pytest.fixture
    async def project(self, store: IdentityStore, tenant: Tenant) -> Project:
        project = a_project(tenant)
        await store.add_project(project, an_entry(tenant, "project.create"))
        return project

    @pytest.fixture
    async def key(self, store: IdentityStore, tenant: Tenant, project: Project) -> ApiKey:
        key = a_key(project)
        await store.add_key(key, an_entry(tenant, "key.create"))
        return key

    async def test_a_tenant_is_found_by_its_id_and_by_its_name(self, store: IdentityStore, tenant: Tenant) -> None:
        assert await store.get_tenant(tenant.tenant_id) == tenant
        assert await store.find_tenant(tenant.name) == tenant
        assert await store.find_tenant("unknown") is None
        with pytest.raises(TenantNotFound):
            await store.get_tenant("ten_none")

    async def test_a_tenants_name_is_unique_and_a_refused_write_leaves_no_audit_entry(
        self, store: IdentityStore, tenant: Tenant
    ) -> None:
        twin = a_tenant(tenant.name)
        with pytest.raises(TenantExists):
            await store.add_tenant(twin, an_entry(twin))
        with pytest.raises(TenantNotFound):
            await store.list_entries(twin.tenant_id, ALL)

    async def test_tenants_are_listed_newest_first_page_by_page(self, store: IdentityStore) -> None:
        tenants = [a_tenant() for _ in range(4)]
        for tenant in tenants:
            await store.add_tenant(tenant, an_entry(tenant))
        ids = sorted((tenant.tenant_id for tenant in tenants), reverse=True)

        listed = (await store.list_tenants(ALL)).items
        assert [tenant.tenant_id for tenant in listed if tenant in tenants] == ids
        first = await store.list_tenants(PageRequest(limit=2))
        assert len(first.items) == 2
        assert first.has_more
        rest = await store.list_tenants(PageRequest(1_000, after=first.items[-1].tenant_id))
        assert [*first.items, *rest.items] == listed
        assert not rest.has_more

    async def test_a_project_is_found_by_its_name_within_its_tenant(
        self, store: IdentityStore, tenant: Tenant, project: Project
    ) -> None:
        assert await store.find_project(tenant.tenant_id, "web") == project
        assert await store.find_project(tenant.tenant_id, "app") is None
        assert await store.find_project("ten_none", "web") is None
        assert (await store.list_projects(tenant.tenant_id, ALL)).items == [project]

    async def test_a_projects_name_is_unique_within_its_tenant(
        self, store: IdentityStore, tenant: Tenant, project: Project
    ) -> None:
        with pytest.raises(ProjectExists):
            await store.add_project(a_project(tenant), an_entry(tenant))
        other = a_tenant()
        await store.add_tenant(other, an_entry(other))
        await store.add_project(a_project(other), an_entry(other))

    async def test_an_unknown_tenant_has_no_projects_keys_or_audit_entries(self, store: IdentityStore) -> None:
        unknown = a_tenant()
        with pytest.raises(TenantNotFound):
            await store.add_project(a_project(unknown), an_entry(unknown))
        with pytest.raises(ProjectNotFound):
            await store.add_key(a_key(a_project(unknown)), an_entry(unknown))
        with pytest.raises(TenantNotFound):
            await store.add_entry(an_entry(unknown))
        for listing in (store.list_projects, store.list_keys, store.list_entries):
            with pytest.raises(TenantNotFound):
                await listing(unknown.tenant_id, ALL)

    async def test_a_key_is_read_as_it_was_written(self, store: IdentityStore, tenant: Tenant, key: ApiKey) -> None:
        assert await store.find_key(key.key_id) == key
        assert (await store.list_keys(tenant.tenant_id, ALL)).items == [key]
        assert await store.find_key("key_none") is None

    async def test_a_keys_id_is_unique(
        self, store: IdentityStore, tenant: Tenant, project: Project, key: ApiKey
    ) -> None:
        with pytest.raises(KeyExists):
            await store.add_key(replace(a_key(project), key_id=key.key_id), an_entry(tenant))

    async def test_a_key_needs_a_project_of_its_own_tenant(
        self, store: IdentityStore, tenant: Tenant, project: Project
    ) -> None:
        other = a_tenant()
        await store.add_tenant(other, an_entry(other))
        with pytest.raises(ProjectNotFound):
            await store.add_key(replace(a_key(project), tenant_id=other.tenant_id), an_entry(other))

    async def test_a_key_is_revoked_for_good(self, store: IdentityStore, tenant: Tenant, key: ApiKey) -> None:
        revoked = await store.revoke_key(tenant.tenant_id, key.key_id, NOW, an_entry(tenant, "key.revoke"))
        assert revoked == replace(key, revoked_at=NOW)

        later = NOW + timedelta(hours=1)
        again = await store.revoke_key(tenant.tenant_id, key.key_id, later, an_entry(tenant, "key.revoke"))
        assert again.revoked_at == NOW
        assert await store.find_key(key.key_id) == revoked

    async def test_a_key_of_another_tenant_is_not_revoked(
        self, store: IdentityStore, tenant: Tenant, key: ApiKey
    ) -> None:
        other = a_tenant()
        await store.add_tenant(other, an_entry(other))
        for tenant_id, key_id in ((other.tenant_id, key.key_id), (tenant.tenant_id, "key_none")):
            with pytest.raises(KeyNotFound):
                await store.revoke_key(tenant_id, key_id, NOW, an_entry(other, "key.revoke"))
        assert await store.find_key(key.key_id) == key
        assert [e.action for e in (await store.list_entries(other.tenant_id, ALL)).items] == ["test"]

    async def test_an_outcome_replaces_unknown_and_nothing_else(self, store: IdentityStore, tenant: Tenant) -> None:
        entry = an_entry(tenant, "budget.set")
        await store.add_entry(replace(entry, outcome="unknown"))
        refused = replace(entry, outcome="refused", reason="cap_below_spend")
        await store.set_outcome(refused)
        await store.set_outcome(entry)

        assert refused in (await store.list_entries(tenant.tenant_id, ALL)).items

    async def test_a_refusal_belongs_to_the_tenant_or_else_to_the_actors(
        self, store: IdentityStore, tenant: Tenant
    ) -> None:
        refusal = replace(an_entry(tenant, "project.create"), outcome="refused", reason="project_exists")
        missing = replace(
            refusal,
            entry_id=new_id("evt_"),
            tenant_id=new_id("ten_"),
            actor_tenant_id=tenant.tenant_id,
            detail={"a": "b"},
        )
        for entry in (refusal, missing):
            await store.add_refusal(entry)

        of_actor = replace(missing, tenant_id=tenant.tenant_id, detail={"a": "b", "tenant_id": missing.tenant_id})
        entries = (await store.list_entries(tenant.tenant_id, ALL)).items
        assert refusal in entries
        assert of_actor in entries

    async def test_every_write_leaves_its_audit_entry(self, store: IdentityStore, tenant: Tenant, key: ApiKey) -> None:
        entry = an_entry(tenant, "budget.set")
        await store.add_entry(entry)

        entries = (await store.list_entries(tenant.tenant_id, ALL)).items
        assert {entry.action for entry in entries} == {
            "tenant.create",
            "project.create",
            "key.create",
            "budget.set",
        }
        assert entry in entries
        assert entries == sorted(entries, key=lambda listed: listed.entry_id, reverse=True)
