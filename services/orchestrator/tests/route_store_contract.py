"""The contract of a route store that holds the demo's routes.

Subclasses give `store`, as the service's role opens it, and `editor`, as the schema's owner does.
"""

from __future__ import annotations

import pytest
from orchestrator.routing.choose import RouteStore, RouteTable
from orchestrator.routing.document import document_to_entry
from orchestrator.routing.edit import make_route_entry
from orchestrator.routing.model import (
    ALL_TENANTS,
    ModelNotFound,
    Provider,
    RouteCandidate,
    RouteEntry,
    Task,
    UnknownFields,
)


async def table_of(store: RouteStore) -> RouteTable:
    table = await store.read(None)
    assert table is not None
    return table


def chat_route(tenant_id: str, *candidates: RouteCandidate) -> RouteEntry:
    return RouteEntry(tenant_id, "smollm2", Task.CHAT, candidates)


class RouteStoreContract:
    async def test_every_tenant_can_use_a_public_route(self, store: RouteStore) -> None:
        table = await table_of(store)

        (chat,) = table.resolve("ten_any", "smollm2", Task.CHAT).candidates
        (embedding,) = table.resolve("ten_any", "all-minilm-l6-v2", Task.EMBEDDING).candidates
        assert (chat.upstream, chat.model, chat.limit_field) == ("local", "smollm2-135m-instruct", "max_tokens")
        assert chat.max_output_tokens > 0
        assert (embedding.upstream, embedding.model) == ("minilm", "all-minilm-l6-v2")

    async def test_a_route_may_be_of_any_task(self, store: RouteStore, editor: RouteStore) -> None:
        for task in Task:
            limit = 100 if task is Task.CHAT else 0
            entry = RouteEntry("ten_tasks", f"of-{task}", task, (RouteCandidate("local", "m", limit),))
            await editor.put(entry)

        table = await table_of(store)
        for task in Task:
            (candidate,) = table.resolve("ten_tasks", f"of-{task}", task).candidates
            assert candidate.upstream == "local"
            for other in {*Task} - {task}:
                with pytest.raises(ModelNotFound):
                    table.resolve("ten_tasks", f"of-{task}", other)

    async def test_a_known_version_is_not_read_again(self, store: RouteStore) -> None:
        table = await table_of(store)

        assert await store.read(table.version) is None

    async def test_a_change_makes_a_new_version(self, store: RouteStore, editor: RouteStore) -> None:
        before = await table_of(store)

        await editor.put(chat_route("ten_1", RouteCandidate("cloud", "bigger", 4096, "max_completion_tokens")))

        after = await store.read(before.version)
        assert after is not None
        assert after.version > before.version

    async def test_a_tenants_own_route_overrides_the_public_one_in_the_order_of_its_candidates(
        self, store: RouteStore, editor: RouteStore
    ) -> None:
        own = [
            RouteCandidate("cloud", "bigger", 4096, "max_completion_tokens", UnknownFields.DROP, Provider.GEMINI),
            RouteCandidate("local", "small", 512, unknown_fields=UnknownFields.PASS),
        ]

        await editor.put(chat_route("ten_1", *own))

        table = await table_of(store)
        assert list(table.resolve("ten_1", "smollm2", Task.CHAT).candidates) == own
        assert table.resolve("ten_2", "smollm2", Task.CHAT).candidates[0].upstream == "local"
        assert [route.model for route in table.visible("ten_1")] == ["all-minilm-l6-v2", "smollm2"]

    async def test_a_route_without_candidates_hides_the_model_from_its_tenant(
        self, store: RouteStore, editor: RouteStore
    ) -> None:
        await editor.put(chat_route("ten_1"))

        table = await table_of(store)
        with pytest.raises(ModelNotFound):
            table.resolve("ten_1", "smollm2", Task.CHAT)
        assert [route.model for route in table.visible("ten_1")] == ["all-minilm-l6-v2"]
        assert len(table.visible("ten_2")) == 2

    async def test_a_route_that_was_put_is_in_force_in_the_order_of_its_candidates(
        self, store: RouteStore, editor: RouteStore
    ) -> None:
        entry = make_route_entry(
            "gpt", ["b/2", "a/1/deep"], max_output_tokens=7, limit_field="max_completion_tokens", tenant_id="ten_1"
        )

        await editor.put(entry)

        assert (await table_of(store)).resolve("ten_1", "gpt", Task.CHAT).candidates == entry.candidates
        assert await editor.entries("ten_1") == [entry]

    async def test_the_policy_and_the_fallbacks_of_a_route_are_kept(
        self, store: RouteStore, editor: RouteStore
    ) -> None:
        entry = document_to_entry(
            "ten_1",
            "gpt",
            {
                "strategy": "weighted",
                "candidates": [{"upstream": "a", "model": "1", "weight": 3, "conditions": {"plans": ["pro"]}}],
                "fallbacks": {"content_policy": [{"upstream": "b", "model": "2"}]},
                "cache": {"exact": True},
            },
        )

        await editor.put(entry)

        route = (await table_of(store)).resolve("ten_1", "gpt", Task.CHAT)
        assert (route.candidates, route.policy) == (entry.candidates, entry.policy)
        assert await editor.entries("ten_1") == [entry]

    async def test_putting_a_route_again_replaces_it_completely(self, store: RouteStore, editor: RouteStore) -> None:
        await editor.put(make_route_entry("gpt", ["a/1", "b/2", "c/3"], tenant_id="ten_1"))

        for _ in range(2):
            again = make_route_entry("gpt", ["c/3", "a/1"], tenant_id="ten_1", task=Task.EMBEDDING)
            await editor.put(again)

        assert await editor.entries("ten_1") == [again]
        candidates = (await table_of(store)).resolve("ten_1", "gpt", Task.EMBEDDING).candidates
        assert [candidate.upstream for candidate in candidates] == ["c", "a"]

    async def test_every_put_and_remove_makes_a_new_version(self, store: RouteStore, editor: RouteStore) -> None:
        versions = [(await table_of(store)).version]
        for candidate in ("a/1", "b/2"):
            await editor.put(make_route_entry("gpt", [candidate], tenant_id="ten_1"))
            versions.append((await table_of(store)).version)
        await editor.remove("ten_1", "gpt")
        versions.append((await table_of(store)).version)

        assert versions == sorted(set(versions))

    async def test_a_tenants_own_route_overrides_the_public_one_until_it_is_removed(
        self, store: RouteStore, editor: RouteStore
    ) -> None:
        await editor.put(make_route_entry("smollm2", ["cloud/bigger"], tenant_id="ten_1"))
        overridden = (await table_of(store)).resolve("ten_1", "smollm2", Task.CHAT)

        removed = await editor.remove("ten_1", "smollm2")

        table = await table_of(store)
        assert overridden.candidates[0].upstream == "cloud"
        assert removed
        assert table.resolve("ten_1", "smollm2", Task.CHAT).candidates[0].upstream == "local"

    async def test_removing_returns_whether_the_route_existed(self, store: RouteStore, editor: RouteStore) -> None:
        await editor.put(make_route_entry("gpt", ["a/1"], tenant_id="ten_1"))

        assert not await editor.remove("ten_2", "gpt")
        assert not await editor.remove(ALL_TENANTS, "gpt")
        assert await editor.remove("ten_1", "gpt")
        assert not await editor.remove("ten_1", "gpt")
        with pytest.raises(ModelNotFound):
            (await table_of(store)).resolve("ten_1", "gpt", Task.CHAT)

    async def test_all_routes_are_listed_by_model_and_tenant(self, editor: RouteStore) -> None:
        for tenant_id in ("ten_2", "ten_1"):
            await editor.put(make_route_entry("smollm2", ["a/1"], tenant_id=tenant_id))

        listed = [(entry.model, entry.tenant_id) for entry in await editor.entries(None)]

        assert listed == [
            ("all-minilm-l6-v2", "*"),
            ("smollm2", "*"),
            ("smollm2", "ten_1"),
            ("smollm2", "ten_2"),
        ]
        assert [entry.model for entry in await editor.entries(ALL_TENANTS)] == ["all-minilm-l6-v2", "smollm2"]
