"""What a route editor promises. Subclasses give `editor` and `book`, which reads what it wrote."""

from __future__ import annotations

import pytest
from orchestrator.domain.errors import ModelNotFound
from orchestrator.domain.ports import RouteBook, RouteEditor
from orchestrator.domain.route_entry import route_entry
from orchestrator.domain.routes import EVERYBODY, Task

from services.orchestrator.tests.route_book import table_of


class RouteEditorContract:
    async def test_a_route_that_was_set_is_in_force_in_the_order_of_its_candidates(
        self, editor: RouteEditor, book: RouteBook
    ) -> None:
        entry = route_entry(
            "gpt", ["b/2", "a/1/deep"], max_output_tokens=7, limit_field="max_completion_tokens", tenant_id="ten_1"
        )

        await editor.put(entry)

        assert (await table_of(book)).resolve("ten_1", "gpt", Task.CHAT).candidates == entry.candidates
        assert await editor.entries("ten_1") == [entry]

    async def test_setting_a_route_again_leaves_nothing_of_what_it_was(
        self, editor: RouteEditor, book: RouteBook
    ) -> None:
        await editor.put(route_entry("gpt", ["a/1", "b/2", "c/3"], tenant_id="ten_1"))

        for _ in range(2):
            again = route_entry("gpt", ["c/3", "a/1"], tenant_id="ten_1", task=Task.EMBEDDING)
            await editor.put(again)

        assert await editor.entries("ten_1") == [again]
        candidates = (await table_of(book)).resolve("ten_1", "gpt", Task.EMBEDDING).candidates
        assert [candidate.upstream for candidate in candidates] == ["c", "a"]

    async def test_every_change_makes_a_new_version(self, editor: RouteEditor, book: RouteBook) -> None:
        versions = [(await table_of(book)).version]
        for candidate in ("a/1", "b/2"):
            await editor.put(route_entry("gpt", [candidate], tenant_id="ten_1"))
            versions.append((await table_of(book)).version)
        await editor.remove("ten_1", "gpt")
        versions.append((await table_of(book)).version)

        assert versions == sorted(set(versions))

    async def test_a_route_of_a_tenant_overrides_that_for_everybody_until_it_is_removed(
        self, editor: RouteEditor, book: RouteBook
    ) -> None:
        await editor.put(route_entry("smollm2", ["cloud/bigger"], tenant_id="ten_1"))
        overridden = (await table_of(book)).resolve("ten_1", "smollm2", Task.CHAT)

        removed = await editor.remove("ten_1", "smollm2")

        table = await table_of(book)
        assert overridden.candidates[0].upstream == "cloud"
        assert removed
        assert table.resolve("ten_1", "smollm2", Task.CHAT).candidates[0].upstream == "local"

    async def test_removing_what_is_not_there_says_so(self, editor: RouteEditor, book: RouteBook) -> None:
        await editor.put(route_entry("gpt", ["a/1"], tenant_id="ten_1"))

        assert not await editor.remove("ten_2", "gpt")
        assert not await editor.remove(EVERYBODY, "gpt")
        assert await editor.remove("ten_1", "gpt")
        assert not await editor.remove("ten_1", "gpt")
        with pytest.raises(ModelNotFound):
            (await table_of(book)).resolve("ten_1", "gpt", Task.CHAT)

    async def test_all_routes_are_listed_by_model_and_tenant(self, editor: RouteEditor, book: RouteBook) -> None:
        for tenant_id in ("ten_2", "ten_1"):
            await editor.put(route_entry("smollm2", ["a/1"], tenant_id=tenant_id))

        listed = [(entry.model, entry.tenant_id) for entry in await editor.entries(None)]

        assert listed == [
            ("all-minilm-l6-v2", "*"),
            ("smollm2", "*"),
            ("smollm2", "ten_1"),
            ("smollm2", "ten_2"),
        ]
        assert [entry.model for entry in await editor.entries(EVERYBODY)] == ["all-minilm-l6-v2", "smollm2"]
