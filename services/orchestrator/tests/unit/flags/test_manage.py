"""What operators do to flags."""

import pytest
from chassis.errors import InvalidRequest, Unavailable
from orchestrator.configuration.model import Edit
from orchestrator.flags.model import EvaluationReason, Flag, FlagContext, FlagNotFound, FlagType, FlagVersionConflict

from services.orchestrator.tests.fake_flags import EDIT, FakeFlagStore, managed, switch

CONTEXT = FlagContext("ten_1")


async def test_a_change_is_in_force_in_this_replica_when_the_call_returns() -> None:
    manage = managed(FakeFlagStore())

    await manage.put(switch("feature.chat", default="off"), EDIT)

    assert manage.cache.snapshot().flags["feature.chat"].evaluate(CONTEXT).variant == "off"


async def test_a_switch_is_killed_without_being_defined_before() -> None:
    manage = managed(FakeFlagStore())

    killed = await manage.kill("upstream.local", EDIT)

    assert killed.flag.evaluate(CONTEXT) == ("off", EvaluationReason.KILLED)
    assert (await manage.restore("upstream.local", EDIT)).flag.evaluate(CONTEXT) == ("on", EvaluationReason.DEFAULT)


async def test_killing_and_restoring_twice_changes_nothing_more() -> None:
    store = FakeFlagStore()
    manage = managed(store)

    for _ in range(2):
        await manage.kill("feature.chat", EDIT)
    for _ in range(2):
        await manage.restore("feature.chat", EDIT)

    assert len(store.changes) == 2


async def test_a_killed_flag_stays_killed_when_its_rules_are_edited() -> None:
    manage = managed(FakeFlagStore())
    await manage.kill("feature.chat", EDIT)

    edited = await manage.put(switch("feature.chat", description="new"), EDIT)

    assert (edited.flag.killed, edited.flag.description) == (True, "new")


async def test_a_killed_flag_is_not_deleted_which_would_turn_it_on() -> None:
    manage = managed(FakeFlagStore())
    await manage.kill("feature.chat", EDIT)

    with pytest.raises(InvalidRequest, match="restore it first"):
        await manage.delete("feature.chat", EDIT)

    assert (await manage.get("feature.chat")).flag.killed


async def test_an_unknown_switch_is_not_killed() -> None:
    with pytest.raises(InvalidRequest, match="no model 'gpt-17'"):
        await managed(FakeFlagStore()).kill("model.gpt-17", EDIT)


async def test_a_flag_of_another_type_is_not_killed() -> None:
    manage = managed(FakeFlagStore())
    await manage.put(Flag(key="app.a", type=FlagType.STRING, variants={"a": ""}, default_variant="a"), EDIT)

    with pytest.raises(InvalidRequest, match="cannot be killed"):
        await manage.kill("app.a", EDIT)
    with pytest.raises(FlagNotFound):
        await manage.kill("app.b", EDIT)


async def test_a_put_of_a_version_that_is_not_the_last_is_refused() -> None:
    manage = managed(FakeFlagStore())
    first = await manage.put(switch("feature.chat"), EDIT, expected_version=0)
    await manage.kill("feature.chat", EDIT)

    with pytest.raises(FlagVersionConflict):
        await manage.put(switch("feature.chat", default="off"), EDIT, expected_version=first.version)
    with pytest.raises(FlagVersionConflict):
        await manage.put(switch("feature.chat"), EDIT, expected_version=0)

    assert (await manage.get("feature.chat")).flag.default_variant == "on"


async def test_a_rollback_makes_an_earlier_version_the_newest() -> None:
    manage = managed(FakeFlagStore())
    first = await manage.put(switch("feature.chat", description="first"), EDIT)
    await manage.put(switch("feature.chat", default="off"), EDIT)
    await manage.delete("feature.chat", EDIT)

    again = await manage.roll_back("feature.chat", first.version, EDIT)

    assert again is not None
    assert again.flag == first.flag
    assert await manage.roll_back("feature.chat", 3, EDIT) is None
    with pytest.raises(FlagNotFound):
        await manage.roll_back("feature.jobs", 3, EDIT)


async def test_the_versions_of_a_flag_say_who_and_why() -> None:
    manage = managed(FakeFlagStore())
    await manage.put(switch("feature.chat"), EDIT)
    await manage.put(switch("feature.jobs"), EDIT)
    await manage.kill("feature.chat", Edit("usr_2", "an incident"))

    newest, first = await manage.versions("feature.chat", limit=10, before=0)

    assert [(one.author, one.reason) for one in (newest, first)] == [
        ("usr_2", "an incident"),
        ("usr_1", "the provider is down"),
    ]
    assert [one.version for one in await manage.versions("feature.chat", limit=10, before=newest.version)] == [1]


async def test_a_change_without_a_reason_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs a reason"):
        await managed(FakeFlagStore()).kill("feature.chat", Edit("usr_1", " "))


async def test_a_change_that_is_stored_succeeds_although_it_cannot_be_read_back_now() -> None:
    store = FakeFlagStore()
    store.failure = Unavailable("no database")

    assert (await managed(store).kill("feature.chat", EDIT)).flag.killed
