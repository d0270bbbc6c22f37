"""The first tenants and keys: as often as anybody likes, by as many as there are."""

import asyncio
from dataclasses import replace

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from gateway.domain.administration import Bootstrap
from gateway.domain.keys import ApiKey, InvalidApiKey, mint_key
from gateway.domain.tenants import AuditEntry, Page, Project, Tenant

from services.gateway.tests.fakes.directory import FakeDirectory

_, TEXT = mint_key("dev")


async def test_a_tenant_its_project_and_its_key_are_made_once() -> None:
    directory = FakeDirectory()
    first = Bootstrap(directory, FakeClock())

    made = await first.ensure("demo", TEXT, {"member"})
    again = await first.ensure("demo", TEXT, {"member"})

    assert again == made
    assert made.env == "dev"
    assert len((await directory.list_tenants(Page())).items) == 1
    (project,) = (await directory.list_projects(made.tenant_id, Page())).items
    assert project.name == "default"
    assert len((await directory.list_keys(made.tenant_id, Page())).items) == 1


async def test_a_new_key_joins_the_tenant_that_is_there() -> None:
    directory = FakeDirectory()
    first = Bootstrap(directory, FakeClock())
    made = await first.ensure("demo", TEXT, {"member"})

    other = await first.ensure("demo", mint_key("dev")[1], {"member"})

    assert (other.tenant_id, other.project_id) == (made.tenant_id, made.project_id)
    assert other.key_id != made.key_id


async def test_a_key_that_is_none_is_refused_and_nothing_is_made() -> None:
    directory = FakeDirectory()
    with pytest.raises(InvalidApiKey):
        await Bootstrap(directory, FakeClock()).ensure("demo", "argosy_dev_x", {"member"})
    assert (await directory.list_tenants(Page())).items == []


async def test_a_key_of_another_tenant_is_refused() -> None:
    first = Bootstrap(FakeDirectory(), FakeClock())
    await first.ensure("demo", TEXT, {"member"})

    with pytest.raises(InvalidRequest):
        await first.ensure("platform", TEXT, {"admin"})


async def test_another_replica_that_is_faster_does_no_harm() -> None:
    class Rivals(FakeDirectory):
        """Somebody else makes the same tenant, project and key just before us."""

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

    directory = Rivals()
    key = await Bootstrap(directory, FakeClock()).ensure("demo", TEXT, {"member"})

    assert (key.tenant_id, key.project_id, key.name) == ("ten_rival", "prj_rival", "rival")


async def test_the_same_key_may_be_ensured_by_two_at_once() -> None:
    directory = FakeDirectory()
    first, second = Bootstrap(directory, FakeClock()), Bootstrap(directory, FakeClock())

    made = await asyncio.gather(first.ensure("demo", TEXT, {"member"}), second.ensure("demo", TEXT, {"member"}))

    assert made[0].key_id == made[1].key_id
