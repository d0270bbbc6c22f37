"""Diffs and rollbacks of the configuration."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from chassis.errors import InvalidRequest, Unavailable
from orchestrator.configuration.model import ConfigurationVersionUnknown, Document, ObjectKey
from orchestrator.configuration.rollback import History, Scope
from orchestrator.configuration.schedule import ConfigurationFeed

from services.orchestrator.tests.fake_configuration import EDIT, FakeConfiguration

ROUTE = ObjectKey("route", "*", "gpt")
OTHER = ObjectKey("route", "*", "other")
CREDENTIAL = ObjectKey("credential", "*", "openai/crd_1")


class FakeObjects:
    """Implements `Restorer`."""

    def __init__(self) -> None:
        self.now: dict[ObjectKey, Document | None] = {}

    async def restore(self, change: Any, key: ObjectKey, document: Document | None) -> None:
        await change.record(key, self.now.get(key), document)
        self.now[key] = document


@pytest.fixture
def log() -> FakeConfiguration:
    return FakeConfiguration()


@pytest.fixture
def objects() -> FakeObjects:
    return FakeObjects()


@pytest.fixture
def history(log: FakeConfiguration, objects: FakeObjects) -> History:
    return History(log, {"route": objects})


async def test_a_diff_sums_up_the_changes_of_an_object(log: FakeConfiguration, history: History) -> None:
    await log.write(ROUTE, None, {"a": 1})
    await log.write(ROUTE, {"a": 1}, {"a": 2})
    (found,) = await history.diff(0, None, Scope())
    assert (found.before, found.after) == (None, {"a": 2})


async def test_what_was_changed_back_does_not_differ(log: FakeConfiguration, history: History) -> None:
    await log.write(ROUTE, None, {"a": 1})
    await log.write(ROUTE, {"a": 1}, {"a": 2})
    await log.write(ROUTE, {"a": 2}, {"a": 1})
    assert await history.diff(1, None, Scope()) == []


async def test_a_rollback_restores_objects_by_new_changes(
    log: FakeConfiguration, objects: FakeObjects, history: History
) -> None:
    await log.write(ROUTE, None, {"a": 1})
    await log.write(ROUTE, {"a": 1}, {"a": 2})
    await log.write(OTHER, None, {"b": 1})
    objects.now = {ROUTE: {"a": 2}, OTHER: {"b": 1}}
    result = await history.rollback(1, EDIT, Scope())
    assert objects.now == {ROUTE: {"a": 1}, OTHER: None}
    assert result.version == len(log.changes) == 5
    assert await history.diff(1, None, Scope()) == []


async def test_a_dry_run_changes_nothing(log: FakeConfiguration, objects: FakeObjects, history: History) -> None:
    await log.write(ROUTE, None, {"a": 1})
    objects.now = {ROUTE: {"a": 1}}
    result = await history.rollback(0, EDIT, Scope(), dry_run=True)
    assert [one.key for one in result.restored] == [ROUTE]
    assert objects.now == {ROUTE: {"a": 1}}
    assert result.version == 1


async def test_a_rollback_leaves_credentials_as_they_are(log: FakeConfiguration, history: History) -> None:
    await log.write(CREDENTIAL, {"enabled": True}, {"enabled": False})
    result = await history.rollback(0, EDIT, Scope())
    assert [one.key for one in result.kept] == [CREDENTIAL]
    assert len(log.changes) == 1


async def test_a_rollback_can_be_of_one_object(log: FakeConfiguration, objects: FakeObjects, history: History) -> None:
    await log.write(ROUTE, None, {"a": 1})
    await log.write(OTHER, None, {"b": 1})
    objects.now = {ROUTE: {"a": 1}, OTHER: {"b": 1}}
    await history.rollback(0, EDIT, Scope(kind="route", name="other"))
    assert objects.now == {ROUTE: {"a": 1}, OTHER: None}


@pytest.mark.parametrize("version", [-1, 1])
async def test_a_version_that_does_not_exist_is_refused(history: History, version: int) -> None:
    with pytest.raises(ConfigurationVersionUnknown):
        await history.rollback(version, EDIT, Scope())


async def test_a_diff_from_a_newer_version_is_refused(log: FakeConfiguration, history: History) -> None:
    await log.write(ROUTE, None, {"a": 1})
    with pytest.raises(InvalidRequest):
        await history.diff(1, 0, Scope())


async def test_the_feed_refreshes_once_for_each_version(log: FakeConfiguration) -> None:
    calls: list[str] = []
    feed = ConfigurationFeed(log, timedelta(seconds=2))

    async def refresh() -> None:
        calls.append("routes")

    feed.on_change("routes", refresh)
    assert await feed.refresh_once()
    assert await feed.refresh_once()
    assert calls == ["routes"]
    await log.write(ROUTE, None, {"a": 1})
    assert await feed.refresh_once()
    assert calls == ["routes", "routes"]


async def test_the_feed_repeats_a_refresh_that_failed_and_makes_the_others(log: FakeConfiguration) -> None:
    calls: list[str] = []
    feed = ConfigurationFeed(log, timedelta(seconds=2))

    async def fails_once() -> None:
        calls.append("first")
        if len(calls) == 1:
            raise Unavailable("not now")

    async def works() -> None:
        calls.append("second")

    feed.on_change("first", fails_once)
    feed.on_change("second", works)
    assert not await feed.refresh_once()
    assert await feed.refresh_once()
    assert calls == ["first", "second", "first", "second"]


async def test_without_the_store_the_feed_keeps_what_it_has(log: FakeConfiguration) -> None:
    log.down = True
    assert not await ConfigurationFeed(log, timedelta(seconds=2)).refresh_once()
