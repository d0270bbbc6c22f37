"""What a route book promises. Subclasses give `book` and `change`, which adds a route of the tenant's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from orchestrator.domain.errors import ModelNotFound
from orchestrator.domain.ports import RouteBook
from orchestrator.domain.routes import RouteCandidate, RouteTable, Task

Change = Callable[[str, str, list[RouteCandidate]], Awaitable[None]]


async def table_of(book: RouteBook) -> RouteTable:
    table = await book.read(None)
    assert table is not None
    return table


class RouteBookContract:
    async def test_everybody_can_use_what_is_seeded(self, book: RouteBook) -> None:
        table = await table_of(book)

        (chat,) = table.resolve("ten_any", "smollm2", Task.CHAT).candidates
        (embedding,) = table.resolve("ten_any", "all-minilm-l6-v2", Task.EMBEDDING).candidates
        assert (chat.upstream, chat.model, chat.limit_field) == ("local", "smollm2-135m-instruct", "max_tokens")
        assert chat.max_output_tokens > 0
        assert (embedding.upstream, embedding.model) == ("minilm", "all-minilm-l6-v2")

    async def test_a_known_version_is_not_read_again(self, book: RouteBook) -> None:
        table = await table_of(book)

        assert await book.read(table.version) is None

    async def test_a_change_makes_a_new_version(self, book: RouteBook, change: Change) -> None:
        before = await table_of(book)

        await change("ten_1", "smollm2", [RouteCandidate("cloud", "bigger", 4096, "max_completion_tokens")])

        after = await book.read(before.version)
        assert after is not None
        assert after.version > before.version

    async def test_a_tenants_own_route_overrides_that_for_everybody_in_the_order_of_its_candidates(
        self, book: RouteBook, change: Change
    ) -> None:
        own = [RouteCandidate("cloud", "bigger", 4096, "max_completion_tokens"), RouteCandidate("local", "small", 512)]

        await change("ten_1", "smollm2", own)

        table = await table_of(book)
        assert list(table.resolve("ten_1", "smollm2", Task.CHAT).candidates) == own
        assert table.resolve("ten_2", "smollm2", Task.CHAT).candidates[0].upstream == "local"
        assert [route.model for route in table.visible("ten_1")] == ["all-minilm-l6-v2", "smollm2"]

    async def test_a_route_without_candidates_hides_the_model_from_its_tenant(
        self, book: RouteBook, change: Change
    ) -> None:
        await change("ten_1", "smollm2", [])

        table = await table_of(book)
        with pytest.raises(ModelNotFound):
            table.resolve("ten_1", "smollm2", Task.CHAT)
        assert [route.model for route in table.visible("ten_1")] == ["all-minilm-l6-v2"]
        assert len(table.visible("ten_2")) == 2
