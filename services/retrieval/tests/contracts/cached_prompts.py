"""Tests of PromptStore: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from chassis.ids import new_id
from retrieval.semantic_cache.model import CachedPrompt
from retrieval.semantic_cache.ports import PromptStore

from services.retrieval.tests.texts import a_vector

ONE, TWO = b"1" * 32, b"2" * 32
HOUR = timedelta(hours=1)
SOON = timedelta(microseconds=1)
"""Has passed when the next statement runs."""


def a_prompt(
    text: str, *, partition: bytes = ONE, entry_id: str = "", model: str = "m", lifetime: timedelta = HOUR
) -> CachedPrompt:
    return CachedPrompt(partition, entry_id or text, model, text, lifetime)


async def put(store: PromptStore, tenant_id: str, prompt: CachedPrompt, max_entries: int) -> None:
    await store.put(tenant_id, prompt, a_vector(prompt.prompt), max_entries)


async def found(store: PromptStore, tenant_id: str, text: str, partition: bytes = ONE) -> Sequence[str]:
    near = await store.find(tenant_id, partition, a_vector(text), 0.99, 10)
    return [one.entry_id for one in near]


class PromptStoreContract:
    async def test_a_prompt_is_found_by_its_meaning_with_its_text_and_similarity(self, prompts: PromptStore) -> None:
        tenant = new_id("ten_")
        await put(prompts, tenant, a_prompt("red apples", entry_id="answer"), 10)
        await put(prompts, tenant, a_prompt("blue whales"), 10)

        near = await prompts.find(tenant, ONE, a_vector("red apples"), 0.99, 10)

        assert [(one.entry_id, one.prompt, round(one.similarity, 2)) for one in near] == [("answer", "red apples", 1.0)]

    async def test_the_nearest_come_first_and_no_more_than_asked_for(self, prompts: PromptStore) -> None:
        tenant = new_id("ten_")
        for text in ("red apples", "red apples today", "red apples today and more"):
            await put(prompts, tenant, a_prompt(text), 10)

        near = await prompts.find(tenant, ONE, a_vector("red apples"), 0.01, 2)

        assert near[0].entry_id == "red apples"
        assert len(near) == 2
        assert near[0].similarity >= near[1].similarity

    async def test_a_full_partition_forgets_what_expires_first_and_no_other_partition_does(
        self, prompts: PromptStore
    ) -> None:
        tenant = new_id("ten_")
        await put(prompts, tenant, a_prompt("red apples", partition=TWO), 10)
        for hours, text in enumerate(("red apples", "blue whales", "green tea"), start=1):
            prompt = a_prompt(text, lifetime=hours * HOUR)
            await prompts.put(tenant, prompt, a_vector(text), 10, max_per_partition=2)

        assert await found(prompts, tenant, "red apples") == []
        assert await found(prompts, tenant, "blue whales") == ["blue whales"]
        assert await found(prompts, tenant, "red apples", TWO) == ["red apples"]

    async def test_another_tenant_and_another_partition_find_nothing(self, prompts: PromptStore) -> None:
        tenant = new_id("ten_")
        await put(prompts, tenant, a_prompt("red apples"), 10)

        assert await found(prompts, new_id("ten_"), "red apples") == []
        assert await found(prompts, tenant, "red apples", TWO) == []
        assert not await prompts.has_prompts(tenant, TWO)
        assert await prompts.has_prompts(tenant, ONE)
        assert await found(prompts, tenant, "red apples") == ["red apples"]

    async def test_two_tenants_with_equal_prompts_find_their_own_answers_only(self, prompts: PromptStore) -> None:
        one, other = new_id("ten_"), new_id("ten_")
        texts = [f"question number {number} of many" for number in range(50)]
        for number, text in enumerate(texts):
            await put(prompts, one, a_prompt(text, entry_id=f"{one} {number}"), 100)
            await put(prompts, other, a_prompt(text, entry_id=f"{other} {number}"), 100)

        for tenant in (one, other):
            for text in texts:
                entries = await found(prompts, tenant, text)
                assert entries
                assert all(entry.startswith(tenant) for entry in entries)

    async def test_a_prompt_that_is_kept_again_is_there_once(self, prompts: PromptStore) -> None:
        tenant = new_id("ten_")
        await put(prompts, tenant, a_prompt("red apples", entry_id="answer"), 10)
        await put(prompts, tenant, a_prompt("blue whales", entry_id="answer"), 10)

        assert await found(prompts, tenant, "red apples") == []
        assert await found(prompts, tenant, "blue whales") == ["answer"]

    async def test_an_expired_prompt_is_not_found_and_is_removed(self, prompts: PromptStore) -> None:
        tenant = new_id("ten_")
        await put(prompts, tenant, a_prompt("red apples", lifetime=SOON), 10)

        assert await found(prompts, tenant, "red apples") == []
        assert not await prompts.has_prompts(tenant, ONE)
        assert await prompts.remove_expired(1_000) >= 1

    async def test_of_too_many_those_that_expire_first_are_removed(self, prompts: PromptStore) -> None:
        tenant, other = new_id("ten_"), new_id("ten_")
        await put(prompts, other, a_prompt("red apples", lifetime=HOUR / 2), 1)
        await put(prompts, tenant, a_prompt("red apples", lifetime=HOUR), 2)
        await put(prompts, tenant, a_prompt("blue whales", lifetime=3 * HOUR), 2)
        await put(prompts, tenant, a_prompt("green tea", lifetime=2 * HOUR, partition=TWO), 2)

        assert await found(prompts, tenant, "red apples") == []
        assert await found(prompts, tenant, "blue whales") == ["blue whales"]
        assert await found(prompts, tenant, "green tea", TWO) == ["green tea"]
        assert await found(prompts, other, "red apples") == ["red apples"]

    async def test_prompts_are_removed_by_model_and_tenant(self, prompts: PromptStore) -> None:
        tenant, other = new_id("ten_"), new_id("ten_")
        await put(prompts, tenant, a_prompt("red apples", model="a"), 10)
        await put(prompts, tenant, a_prompt("blue whales", model="b"), 10)
        await put(prompts, other, a_prompt("red apples", model="a"), 10)

        await prompts.remove(tenant, "a")
        assert await found(prompts, tenant, "red apples") == []
        assert await found(prompts, tenant, "blue whales") == ["blue whales"]
        await prompts.remove(tenant, None)
        assert await found(prompts, tenant, "blue whales") == []
        assert await found(prompts, other, "red apples") == ["red apples"]
        await prompts.remove(None, "a")
        assert await found(prompts, other, "red apples") == []
