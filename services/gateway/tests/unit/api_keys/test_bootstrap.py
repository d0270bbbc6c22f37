"""The bootstrap is idempotent, also when replicas run it at the same time."""

import asyncio
from dataclasses import replace

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from gateway.api_keys.bootstrap import Bootstrap
from gateway.audit.model import AuditEntry
from gateway.auth.api_key import ApiKey, InvalidApiKey, mint_key
from gateway.projects.model import Project
from gateway.tenants.model import Tenant
from gateway.web.pagination import PageRequest

from services.gateway.tests.fakes.identity_store import FakeIdentityStore

_, TEXT = mint_key("dev")


def bootstrap_of(store: FakeIdentityStore) -> Bootstrap:
    return Bootstrap(store, store, store, FakeClock())


async def test_a_tenant_its_project_and_its_key_are_made_once() -> None:
    store = FakeIdentityStore()
    first = bootstrap_of(store)

    made = await first.ensure("demo", TEXT, {"member"})
    again = await first.ensure("demo", TEXT, {"member"})

    assert again == made
    assert made.env == "dev"
    assert len((await store.list_tenants(PageRequest())).items) == 1
    (project,) = (await store.list_projects(made.tenant_id, PageRequest())).items
    assert project.name == "default"
    assert len((await store.list_keys(made.tenant_id, PageRequest())).items) == 1


async def test_a_new_key_is_added_to_the_existing_tenant() -> None:
    store = FakeIdentityStore()
    first = bootstrap_of(store)
    made = await first.ensure("demo", TEXT, {"member"})

    other = await first.ensure("demo", mint_key("dev")[1], {"member"})

    assert (other.tenant_id, other.project_id) == (made.tenant_id, made.project_id)
    assert other.key_id != made.key_id


async def test_a_malformed_key_is_refused_and_nothing_is_created() -> None:
    store = FakeIdentityStore()
    with pytest.raises(InvalidApiKey):
        await bootstrap_of(store).ensure("demo", "argosy_dev_x", {"member"})
    assert (await store.list_tenants(PageRequest())).items == []


async def test_a_key_of_another_tenant_is_refused() -> None:
    first = bootstrap_of(FakeIdentityStore())
    await first.ensure("demo", TEXT, {"member"})

    with pytest.raises(InvalidRequest):
        await first.ensure("platform", TEXT, {"platform_admin"})


async def test_another_replica_may_be_first() -> None:
    class Rivals(FakeIdentityStore):
        """Another replica adds the same tenant, project and key just before each write."""

        async def add_tenant(self, tenant: Tenant, entry: AuditEntry) -> None:
            if await self.find_tenant(tenant.name) is None:
                rival = replace(tenant, tenant_id="ten_rival")
                await super().add_tenant(rival, replace(entry, tenant_id="ten_rival"))
            await super().add_tenant(tenant, entry)

        async def add_project(self, project: Project, entry: AuditEntry) -> None:
            if await self.find_project(project.tenant_id, project.name) is None:
                await super().add_project(replace(project, project_id="prj_rival"), entry)
            await super().add_project(project, entry)

        async def add_key(self, key: ApiKey, entry: AuditEntry) -> None:
            if await self.find_key(key.key_id) is None:
                await super().add_key(replace(key, name="rival"), entry)
            await super().add_key(key, entry)

    store = Rivals()
    key = await bootstrap_of(store).ensure("demo", TEXT, {"member"})

    assert (key.tenant_id, key.project_id, key.name) == ("ten_rival", "prj_rival", "rival")


async def test_two_replicas_may_ensure_the_same_key_at_once() -> None:
    store = FakeIdentityStore()
    first, second = bootstrap_of(store), bootstrap_of(store)

    made = await asyncio.gather(first.ensure("demo", TEXT, {"member"}), second.ensure("demo", TEXT, {"member"}))

    assert made[0].key_id == made[1].key_id
