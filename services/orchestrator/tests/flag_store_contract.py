"""The contract of a store of flags, which is empty at first. Subclasses give `store`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from orchestrator.flags.model import Flag, FlagContext, FlagType, Rule
from orchestrator.flags.ports import FlagStore

from services.orchestrator.tests.fake_flags import EDIT, switch

RICH = Flag(
    key="app.greeting",
    type=FlagType.OBJECT,
    variants={"short": {"text": "Hi"}, "long": {"text": "Good day", "words": [1, 2.5, None]}},
    default_variant="short",
    rules=(
        Rule(variant="long", tenants=frozenset({"ten_1", "ten_2"}), plans=frozenset({"gold"}), basis_points=1_234),
        Rule(variant="long", models=frozenset({"smollm2"}), upstreams=frozenset({"local"})),
    ),
    enabled=False,
    description="How we greet.",
)


class FlagStoreContract:
    async def test_a_flag_is_read_back_as_it_was_written(self, store: FlagStore) -> None:
        written = await store.edit(RICH.key, EDIT, lambda _: RICH)

        assert written is not None
        assert written.flag == RICH
        assert await store.find(RICH.key) == written
        assert await store.list() == [written]
        snapshot = await store.read(None)
        assert snapshot is not None
        assert dict(snapshot.flags) == {RICH.key: RICH}

    async def test_a_known_version_is_not_read_again_and_a_change_makes_a_new_one(self, store: FlagStore) -> None:
        await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat"))
        first = await store.read(None)
        assert first is not None
        unchanged = await store.read(first.version)

        await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat", default="off"))

        assert unchanged is None
        second = await store.read(first.version)
        assert second is not None
        assert second.version > first.version
        assert second.flags["feature.chat"].evaluate(FlagContext("ten_1")).variant == "off"

    async def test_a_change_that_changes_nothing_makes_no_version(self, store: FlagStore) -> None:
        once = await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat"))

        assert await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat")) == once

    async def test_a_deleted_flag_is_gone(self, store: FlagStore) -> None:
        await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat"))

        assert await store.edit("feature.chat", EDIT, lambda _: None) is None

        assert await store.find("feature.chat") is None
        snapshot = await store.read(None)
        assert snapshot is not None
        assert not snapshot.flags

    async def test_what_a_change_raises_leaves_the_flag_as_it_is(self, store: FlagStore) -> None:
        before = await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat"))

        def refuse(_: object) -> Flag:
            raise LookupError("no")

        with pytest.raises(LookupError):
            await store.edit("feature.chat", EDIT, refuse)

        assert await store.find("feature.chat") == before

    async def test_of_concurrent_changes_none_is_lost(self, store: FlagStore) -> None:
        await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat"))

        async def add(tenant_id: str) -> None:
            rule = Rule(variant="off", tenants=frozenset({tenant_id}))
            await store.edit(
                "feature.chat",
                EDIT,
                lambda stored: None if stored is None else replace(stored.flag, rules=(*stored.flag.rules, rule)),
            )

        await asyncio.gather(*(add(f"ten_{number}") for number in range(5)))

        stored = await store.find("feature.chat")
        assert stored is not None
        assert len(stored.flag.rules) == 5
