"""The contract of the log of changes. Subclasses give `log`, which may hold changes of other tests."""

from __future__ import annotations

import asyncio

import pytest
from chassis.ids import new_id
from orchestrator.configuration.model import ChangeFilter, Edit, ObjectKey
from orchestrator.configuration.ports import Configuration

EDIT = Edit("usr_1", "because")


def new_key(kind: str = "route", tenant_id: str = "*") -> ObjectKey:
    """Return an object that no other test has."""
    return ObjectKey(kind, tenant_id, new_id("object_"))


class ConfigurationContract:
    async def test_a_change_is_listed_with_its_author_and_reason(self, log: Configuration) -> None:
        key = new_key()
        async with log.change(EDIT) as change:
            version = await change.record(key, None, {"a": [1, 2.5, None]})

        (listed,) = await log.list_changes(ChangeFilter(10, name=key.name))

        assert (listed.version, listed.key) == (version, key)
        assert (listed.before, listed.after) == (None, {"a": [1, 2.5, None]})
        assert (listed.author, listed.reason) == ("usr_1", "because")
        assert await log.version() == version

    async def test_versions_follow_one_another(self, log: Configuration) -> None:
        before = await log.version()
        async with log.change(EDIT) as change:
            versions = [await change.record(new_key(), None, {"a": number}) for number in range(3)]

        assert versions == [before + 1, before + 2, before + 3]
        assert [one.version for one in await log.changes_between(before, before + 2)] == versions[:2]

    async def test_what_changes_nothing_is_not_logged(self, log: Configuration) -> None:
        before = await log.version()

        async with log.change(EDIT) as change:
            assert await change.record(new_key(), {"a": 1}, {"a": 1}) is None

        assert await log.version() == before

    async def test_a_change_that_fails_leaves_nothing(self, log: Configuration) -> None:
        before = await log.version()

        async def fail() -> None:
            async with log.change(EDIT) as change:
                await change.record(new_key(), None, {"a": 1})
                raise LookupError("no")

        with pytest.raises(LookupError):
            await fail()

        assert await log.version() == before

    async def test_changes_at_once_get_versions_of_their_own(self, log: Configuration) -> None:
        before = await log.version()

        async def write() -> None:
            async with log.change(EDIT) as change:
                await change.record(new_key(), None, {"a": 1})

        await asyncio.gather(*(write() for _ in range(5)))

        changes = await log.changes_between(before, before + 100)
        assert [one.version for one in changes] == list(range(before + 1, before + 6))

    async def test_changes_are_listed_by_what_they_change_newest_first(self, log: Configuration) -> None:
        key, other = new_key(), new_key("flag", "ten_1")
        async with log.change(EDIT) as change:
            first = await change.record(key, None, {"a": 1})
            await change.record(other, None, {"a": 1})
            second = await change.record(key, {"a": 1}, None)

        of_key = await log.list_changes(ChangeFilter(10, kind="route", name=key.name))
        older = await log.list_changes(ChangeFilter(10, before_version=second or 0, name=key.name))
        of_tenant = await log.list_changes(ChangeFilter(10, tenant_id="ten_1", name=other.name))

        assert [one.version for one in of_key] == [second, first]
        assert [one.version for one in older] == [first]
        assert [one.key for one in of_tenant] == [other]
        assert [one.version for one in await log.list_changes(ChangeFilter(1, name=key.name))] == [second]
