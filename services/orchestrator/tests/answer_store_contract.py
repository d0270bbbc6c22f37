"""Contract of stores of cached answers. Subclasses give `store`: the one in memory, or Redis."""

import asyncio
from datetime import timedelta

import pytest
from chassis.ids import new_id
from orchestrator.response_cache.model import CacheKey
from orchestrator.response_cache.ports import AnswerStore, Purged, Turn

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
        assert (first.data, first.turn, second.data, second.turn) == (None, Turn.OURS, None, Turn.THEIRS)

    async def test_a_look_without_a_lease_takes_no_lock(self, store: AnswerStore, key: CacheKey) -> None:
        assert (await store.find(key, "", None)).turn is Turn.NOT_ASKED
        assert (await store.find(key, "a", LEASE)).turn is Turn.OURS

    async def test_what_is_kept_is_found_and_its_lock_is_free(self, store: AnswerStore, key: CacheKey) -> None:
        await store.find(key, "a", LEASE)
        store.put(key, b"answer", TTL, "a")
        await stored(store, key, b"answer")
        assert await store.lock(key, "b", LEASE) is Turn.OURS
        assert await store.lock(key, "c", LEASE) is Turn.THEIRS

    async def test_a_leader_that_gives_up_lets_the_next_one_lead(self, store: AnswerStore, key: CacheKey) -> None:
        await store.find(key, "a", LEASE)
        store.unlock(key, "not mine")
        assert (await store.find(key, "b", LEASE)).turn is Turn.THEIRS
        store.unlock(key, "a")
        assert (await store.find(key, "b", LEASE)).turn is Turn.OURS

    async def test_after_an_answer_that_is_not_kept_nobody_leads_until_one_is_kept(
        self, store: AnswerStore, key: CacheKey
    ) -> None:
        await store.find(key, "a", LEASE)
        store.give_to_all(key, "not mine", TTL)
        assert (await store.find(key, "b", LEASE)).turn is Turn.THEIRS
        store.give_to_all(key, "a", TTL)
        assert (await store.find(key, "b", LEASE)).turn is Turn.ALL
        assert await store.lock(key, "b", LEASE) is Turn.ALL
        store.give_to_all(key, "", TTL)
        assert (await store.find(key, "b", LEASE)).turn is Turn.ALL
        store.put(key, b"answer", TTL, "")
        await stored(store, key, b"answer")
        assert await store.lock(key, "b", LEASE) is Turn.OURS

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
        await store.purge(Purged(tenant_id, model))
        looked = await store.find(key, "", None)
        assert before <= looked.purged_ms <= looked.now_ms
        assert await store.purged_ms(key) == looked.purged_ms
        assert (await store.find(other, "", None)).purged_ms == await store.purged_ms(other) == 0

    async def test_a_removal_takes_the_bytes_of_a_tenant_and_no_others(self, store: AnswerStore, key: CacheKey) -> None:
        other = key._replace(tenant_id=new_id("ten_"))
        for one in (key, other):
            store.put(one, b"answer", TTL, "")
            await stored(store, one, b"answer")
        assert await store.remove([Purged(key.tenant_id, None)]) == 1
        assert (await store.find(key, "", None)).data is None
        assert (await store.find(other, "", None)).data == b"answer"

    async def test_one_removal_is_for_several_purges_and_leaves_locks(self, store: AnswerStore, key: CacheKey) -> None:
        mine, theirs = key._replace(model="another"), key._replace(tenant_id=new_id("ten_"))
        other = key._replace(model="a third")
        for one in (key, mine, theirs, other):
            store.put(one, b"answer", TTL, "")
            await stored(store, one, b"answer")
            await store.lock(one, "a", LEASE)
        purged = [Purged(key.tenant_id, "another"), Purged(theirs.tenant_id, None), Purged(key.tenant_id, key.model)]
        assert await store.remove(purged) == 3
        kept = [(await store.find(one, "", None)).data for one in (key, mine, theirs, other)]
        assert kept == [None, None, None, b"answer"]
        assert [await store.lock(one, "b", LEASE) for one in (key, mine, theirs, other)] == [Turn.THEIRS] * 4
