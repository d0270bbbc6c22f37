"""Contract of stores of cached answers. Subclasses give `store`: the one in memory, or Redis."""

import asyncio
from datetime import timedelta

import pytest
from chassis.ids import new_id
from orchestrator.response_cache.model import CacheKey
from orchestrator.response_cache.ports import AnswerStore

LEASE, TTL = timedelta(seconds=30), timedelta(minutes=5)


async def stored(store: AnswerStore, key: CacheKey, data: bytes | None) -> None:
    """Wait until a command that was not awaited has its effect."""
    async with asyncio.timeout(30):
        while (await store.find(key, "", None)).data != data:
            await asyncio.sleep(0.01)


class AnswerStoreContract:
    @pytest.fixture
    def key(self) -> CacheKey:
        return CacheKey(new_id("ten_"), "fast/model", "ab" * 32)

    async def test_an_empty_key_is_led_by_the_first_who_looks(self, store: AnswerStore, key: CacheKey) -> None:
        first, second = await store.find(key, "a", LEASE), await store.find(key, "b", LEASE)
        assert (first.data, first.leads, second.data, second.leads) == (None, True, None, False)

    async def test_a_look_without_a_lease_takes_no_lock(self, store: AnswerStore, key: CacheKey) -> None:
        assert not (await store.find(key, "", None)).leads
        assert (await store.find(key, "a", LEASE)).leads

    async def test_what_is_kept_is_found_and_its_lock_is_free(self, store: AnswerStore, key: CacheKey) -> None:
        await store.find(key, "a", LEASE)
        store.put(key, b"answer", TTL, "a")
        await stored(store, key, b"answer")
        assert await store.lock(key, "b", LEASE)

    async def test_a_leader_that_gives_up_lets_the_next_one_lead(self, store: AnswerStore, key: CacheKey) -> None:
        await store.find(key, "a", LEASE)
        store.unlock(key, "not mine")
        assert not (await store.find(key, "b", LEASE)).leads
        store.unlock(key, "a")
        assert (await store.find(key, "b", LEASE)).leads

    async def test_a_tenant_never_finds_the_answer_of_another(self, store: AnswerStore, key: CacheKey) -> None:
        store.put(key, b"answer", TTL, "")
        await stored(store, key, b"answer")
        for other in (
            key._replace(tenant_id=new_id("ten_")),
            key._replace(model="other"),
            key._replace(digest="cd" * 32),
        ):
            assert (await store.find(other, "", None)).data is None

    @pytest.mark.parametrize("of", ["tenant", "route", "route of all tenants"])
    async def test_a_purge_is_seen_by_the_keys_that_it_concerns(
        self, store: AnswerStore, key: CacheKey, of: str
    ) -> None:
        tenant_id = None if of == "route of all tenants" else key.tenant_id
        model = None if of == "tenant" else key.model
        other = CacheKey(new_id("ten_"), f"other-{new_id('m')}", key.digest)
        before = (await store.find(key, "", None)).now_ms
        await store.purge(tenant_id, model)
        looked = await store.find(key, "", None)
        assert before <= looked.purged_ms <= looked.now_ms
        assert (await store.find(other, "", None)).purged_ms == 0

    async def test_a_removal_takes_the_bytes_of_a_tenant_and_no_others(self, store: AnswerStore, key: CacheKey) -> None:
        other = key._replace(tenant_id=new_id("ten_"))
        for one in (key, other):
            store.put(one, b"answer", TTL, "")
            await stored(store, one, b"answer")
        assert await store.remove(key.tenant_id, None) == 1
        assert (await store.find(key, "", None)).data is None
        assert (await store.find(other, "", None)).data == b"answer"
