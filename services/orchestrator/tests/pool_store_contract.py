"""The contract of the store of pools. Subclasses give `pools`, empty."""

from datetime import timedelta

import pytest
from orchestrator.pools.model import PoolQuota, PoolQuotaExceeded, PoolState, TenantHasPool
from orchestrator.pools.ports import PoolStore

from services.orchestrator.tests.pool_fakes import spec

QUOTA = PoolQuota(max_pools=3, max_replicas=20)
AT_ONCE, LATER = timedelta(0), timedelta(hours=1)


class PoolStoreContract:
    async def test_a_pool_that_was_put_is_read_and_listed_by_name(self, pools: PoolStore) -> None:
        gold = await pools.put(spec("gold", "ten_1", "ten_2", minimum=1), QUOTA)
        silver = await pools.put(spec("bronze", "ten_3"), QUOTA)

        assert (sorted(gold.tenant_ids), gold.min_replicas, gold.max_replicas) == (["ten_1", "ten_2"], 1, 4)
        assert (gold.state, gold.unfinished_jobs) == (PoolState.ACTIVE, 0)
        assert await pools.get("gold") == gold
        assert list(await pools.list()) == [silver, gold]
        assert await pools.get("lead") is None

    async def test_a_pool_is_resized_and_gets_other_tenants(self, pools: PoolStore) -> None:
        made = await pools.put(spec("gold", "ten_1", "ten_2"), QUOTA)

        changed = await pools.put(spec("gold", "ten_2", "ten_3", minimum=2, maximum=9), QUOTA)

        assert (sorted(changed.tenant_ids), changed.min_replicas, changed.max_replicas) == (["ten_2", "ten_3"], 2, 9)
        assert changed.created_at == made.created_at
        assert (await pools.put(spec("silver", "ten_1"), QUOTA)).tenant_ids == {"ten_1"}

    async def test_a_tenant_of_another_pool_is_refused_and_nothing_changes(self, pools: PoolStore) -> None:
        gold = await pools.put(spec("gold", "ten_1"), QUOTA)

        with pytest.raises(TenantHasPool):
            await pools.put(spec("silver", "ten_1", "ten_2"), QUOTA)

        assert list(await pools.list()) == [gold]

    async def test_pools_and_replicas_beyond_the_quota_are_refused(self, pools: PoolStore) -> None:
        for number in range(3):
            await pools.put(spec(f"pool-{number}", f"ten_{number}", maximum=5), QUOTA)

        with pytest.raises(PoolQuotaExceeded):
            await pools.put(spec("pool-4", "ten_4", maximum=1), QUOTA)
        with pytest.raises(PoolQuotaExceeded):
            await pools.put(spec("pool-0", "ten_0", maximum=11), QUOTA)

        assert (await pools.put(spec("pool-0", "ten_0", maximum=10), QUOTA)).max_replicas == 10

    async def test_a_pool_that_drains_has_no_tenants_and_still_counts(self, pools: PoolStore) -> None:
        await pools.put(spec("gold", "ten_1", maximum=20), QUOTA)

        draining = await pools.drain("gold")

        assert draining is not None
        assert (draining.state, draining.tenant_ids) == (PoolState.DRAINING, frozenset())
        assert await pools.drain("gold") == draining
        with pytest.raises(PoolQuotaExceeded):
            await pools.put(spec("silver", "ten_1", maximum=1), QUOTA)
        assert await pools.drain("lead") is None

    async def test_a_pool_that_drains_is_active_again_when_it_is_put(self, pools: PoolStore) -> None:
        await pools.put(spec("gold"), QUOTA)
        await pools.drain("gold")

        again = await pools.put(spec("gold"), QUOTA)

        assert (again.state, list(again.tenant_ids)) == (PoolState.ACTIVE, ["ten_1"])
        assert await pools.drained(AT_ONCE) == []
        assert not await pools.remove("gold")

    async def test_only_a_pool_that_has_drained_for_the_time_is_removed(self, pools: PoolStore) -> None:
        await pools.put(spec("gold"), QUOTA)
        await pools.put(spec("silver", "ten_2"), QUOTA)
        await pools.drain("gold")

        assert await pools.drained(LATER) == []
        assert [pool.name for pool in await pools.drained(AT_ONCE)] == ["gold"]
        assert await pools.remove("gold")
        assert not await pools.remove("gold")
        assert not await pools.remove("silver")
        assert [pool.name for pool in await pools.list()] == ["silver"]
