"""What the directory promises. Subclasses give `directory`; the same tests run on the fake and on Postgres."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from chassis.ids import new_id
from gateway.domain.keys import ApiKey, mint_key
from gateway.domain.tenants import (
    AuditEntry,
    Directory,
    KeyExists,
    KeyNotFound,
    Page,
    Project,
    ProjectExists,
    ProjectNotFound,
    Tenant,
    TenantExists,
    TenantNotFound,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
ALL = Page(limit=1_000)


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
        roles=frozenset({"member", "admin"}),
        created_at=NOW,
        sha256=minted.sha256,
        plan="standard",
        expires_at=NOW + timedelta(days=1),
    )


def an_entry(tenant: Tenant, action: str = "test") -> AuditEntry:
    return AuditEntry(tenant.tenant_id, new_id("evt_"), action, "x", "ten_a", "key_a", "req_a", {"b": "ü"}, NOW)


class DirectoryContract:
    @pytest.fixture
    async def tenant(self, directory: Directory) -> Tenant:
        tenant = a_tenant()
        await directory.add_tenant(tenant, an_entry(tenant, "tenant.create"))
        return tenant

    @pytest.fixture
    async def project(self, directory: Directory, tenant: Tenant) -> Project:
        project = a_project(tenant)
        await directory.add_project(project, an_entry(tenant, "project.create"))
        return project

    @pytest.fixture
    async def key(self, directory: Directory, tenant: Tenant, project: Project) -> ApiKey:
        key = a_key(project)
        await directory.add_key(key, an_entry(tenant, "key.create"))
        return key

    async def test_a_tenant_is_found_by_its_id_and_by_its_name(self, directory: Directory, tenant: Tenant) -> None:
        assert await directory.get_tenant(tenant.tenant_id) == tenant
        assert await directory.find_tenant(tenant.name) == tenant
        assert await directory.find_tenant("nobody") is None
        with pytest.raises(TenantNotFound):
            await directory.get_tenant("ten_none")

    async def test_a_tenants_name_is_taken_once_and_the_refusal_leaves_no_trail(
        self, directory: Directory, tenant: Tenant
    ) -> None:
        twin = a_tenant(tenant.name)
        with pytest.raises(TenantExists):
            await directory.add_tenant(twin, an_entry(twin))
        with pytest.raises(TenantNotFound):
            await directory.list_audit(twin.tenant_id, ALL)

    async def test_tenants_are_listed_newest_first_page_by_page(self, directory: Directory) -> None:
        tenants = [a_tenant() for _ in range(4)]
        for tenant in tenants:
            await directory.add_tenant(tenant, an_entry(tenant))
        ids = sorted((tenant.tenant_id for tenant in tenants), reverse=True)

        listed = (await directory.list_tenants(ALL)).items
        assert [tenant.tenant_id for tenant in listed if tenant in tenants] == ids
        first = await directory.list_tenants(Page(limit=2))
        assert len(first.items) == 2
        assert first.has_more
        rest = await directory.list_tenants(Page(1_000, after=first.items[-1].tenant_id))
        assert [*first.items, *rest.items] == listed
        assert not rest.has_more

    async def test_a_project_is_found_by_its_name_within_its_tenant(
        self, directory: Directory, tenant: Tenant, project: Project
    ) -> None:
        assert await directory.find_project(tenant.tenant_id, "web") == project
        assert await directory.find_project(tenant.tenant_id, "app") is None
        assert await directory.find_project("ten_none", "web") is None
        assert (await directory.list_projects(tenant.tenant_id, ALL)).items == [project]

    async def test_a_projects_name_is_taken_once_within_its_tenant(
        self, directory: Directory, tenant: Tenant, project: Project
    ) -> None:
        with pytest.raises(ProjectExists):
            await directory.add_project(a_project(tenant), an_entry(tenant))
        other = a_tenant()
        await directory.add_tenant(other, an_entry(other))
        await directory.add_project(a_project(other), an_entry(other))

    async def test_nothing_belongs_to_a_tenant_that_is_none(self, directory: Directory) -> None:
        nobody = a_tenant()
        with pytest.raises(TenantNotFound):
            await directory.add_project(a_project(nobody), an_entry(nobody))
        with pytest.raises(ProjectNotFound):
            await directory.add_key(a_key(a_project(nobody)), an_entry(nobody))
        with pytest.raises(TenantNotFound):
            await directory.record(an_entry(nobody))
        for listing in (directory.list_projects, directory.list_keys, directory.list_audit):
            with pytest.raises(TenantNotFound):
                await listing(nobody.tenant_id, ALL)

    async def test_a_key_is_kept_as_it_is(self, directory: Directory, tenant: Tenant, key: ApiKey) -> None:
        assert await directory.find_key(key.key_id) == key
        assert (await directory.list_keys(tenant.tenant_id, ALL)).items == [key]
        assert await directory.find_key("key_none") is None

    async def test_an_id_of_a_key_is_taken_once(
        self, directory: Directory, tenant: Tenant, project: Project, key: ApiKey
    ) -> None:
        with pytest.raises(KeyExists):
            await directory.add_key(replace(a_key(project), key_id=key.key_id), an_entry(tenant))

    async def test_a_key_needs_a_project_of_its_own_tenant(
        self, directory: Directory, tenant: Tenant, project: Project
    ) -> None:
        other = a_tenant()
        await directory.add_tenant(other, an_entry(other))
        with pytest.raises(ProjectNotFound):
            await directory.add_key(replace(a_key(project), tenant_id=other.tenant_id), an_entry(other))

    async def test_a_key_is_revoked_for_good(self, directory: Directory, tenant: Tenant, key: ApiKey) -> None:
        revoked = await directory.revoke_key(tenant.tenant_id, key.key_id, NOW, an_entry(tenant, "key.revoke"))
        assert revoked == replace(key, revoked_at=NOW)

        later = NOW + timedelta(hours=1)
        again = await directory.revoke_key(tenant.tenant_id, key.key_id, later, an_entry(tenant, "key.revoke"))
        assert again.revoked_at == NOW
        assert await directory.find_key(key.key_id) == revoked

    async def test_a_key_of_another_tenant_is_not_revoked(
        self, directory: Directory, tenant: Tenant, key: ApiKey
    ) -> None:
        other = a_tenant()
        await directory.add_tenant(other, an_entry(other))
        for tenant_id, key_id in ((other.tenant_id, key.key_id), (tenant.tenant_id, "key_none")):
            with pytest.raises(KeyNotFound):
                await directory.revoke_key(tenant_id, key_id, NOW, an_entry(other, "key.revoke"))
        assert await directory.find_key(key.key_id) == key
        assert [e.action for e in (await directory.list_audit(other.tenant_id, ALL)).items] == ["test"]

    async def test_every_write_leaves_its_trail_as_it_was_said(
        self, directory: Directory, tenant: Tenant, key: ApiKey
    ) -> None:
        note = an_entry(tenant, "budget.set")
        await directory.record(note)

        entries = (await directory.list_audit(tenant.tenant_id, ALL)).items
        assert {entry.action for entry in entries} == {
            "tenant.create",
            "project.create",
            "key.create",
            "budget.set",
        }
        assert note in entries
        assert entries == sorted(entries, key=lambda entry: entry.entry_id, reverse=True)
