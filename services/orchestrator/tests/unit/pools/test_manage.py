"""Pools are created, resized, drained and removed."""

from datetime import timedelta

import pytest
from chassis.errors import ArgosyError, InvalidRequest, Unavailable
from chassis.testing import FakeClock
from orchestrator.pools.manage import ManagePools
from orchestrator.pools.model import PoolNameTaken, PoolNotFound, PoolQuota, PoolSpec, PoolState
from orchestrator.pools.reconcile import SETTLE, Reconciler

from services.orchestrator.tests.pool_fakes import FakePoolCluster, FakePoolStore, FakePoolTopics, spec


class Fixture:
    """Pools over fakes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store, self.cluster, self.topics = FakePoolStore(self.clock), FakePoolCluster(), FakePoolTopics()
        self.manage = ManagePools(
            store=self.store, cluster=self.cluster, topics=self.topics, quota=PoolQuota(max_pools=2, max_replicas=10)
        )
        self.failed: list[tuple[str, ArgosyError]] = []
        self.reconciler = Reconciler(
            store=self.store, cluster=self.cluster, on_failed=lambda *failure: self.failed.append(failure)
        )


@pytest.fixture
def pools() -> Fixture:
    return Fixture()


async def test_a_new_pool_has_topics_and_workers(pools: Fixture) -> None:
    made = await pools.manage.put(spec(minimum=1))

    assert pools.topics.pools == ["gold"]
    assert pools.cluster.applied == {"gold": made}
    assert await pools.manage.get("gold") == (made, (1, 1))


async def test_a_resized_pool_is_applied_again(pools: Fixture) -> None:
    await pools.manage.put(spec())

    await pools.manage.put(spec(minimum=2, maximum=8))

    assert (pools.cluster.applied["gold"].min_replicas, pools.cluster.applied["gold"].max_replicas) == (2, 8)


async def test_a_name_that_the_cluster_uses_for_something_else_is_refused(pools: Fixture) -> None:
    pools.cluster.foreign.add("gold")

    with pytest.raises(PoolNameTaken):
        await pools.manage.put(spec())

    assert (pools.topics.pools, list(await pools.store.list())) == ([], [])


@pytest.mark.parametrize("name", ["", "Gold", "1st", "gold-", "-gold", "a" * 31, "göld", "gold\n"])
async def test_a_name_that_topics_or_objects_cannot_have_is_refused(pools: Fixture, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await pools.manage.put(spec(name))


async def test_the_default_pool_is_taken(pools: Fixture) -> None:
    with pytest.raises(PoolNameTaken):
        await pools.manage.put(spec("default"))


@pytest.mark.parametrize(
    "wrong",
    [
        spec(minimum=5, maximum=4),
        spec(minimum=-1),
        spec(maximum=0),
        PoolSpec(name="gold", tenant_ids=frozenset(), min_replicas=0, max_replicas=1),
    ],
)
async def test_a_pool_that_cannot_be_is_refused(pools: Fixture, wrong: PoolSpec) -> None:
    with pytest.raises(InvalidRequest):
        await pools.manage.put(wrong)


async def test_what_the_cluster_did_not_take_is_applied_later(pools: Fixture) -> None:
    pools.cluster.failures = {"gold": Unavailable("the cluster does not answer")}
    with pytest.raises(Unavailable):
        await pools.manage.put(spec())
    await pools.reconciler.run_once()
    assert [name for name, _ in pools.failed] == ["gold"]

    pools.cluster.failures = {}
    await pools.reconciler.run_once()

    assert pools.cluster.applied.keys() == {"gold"}


async def test_one_pool_that_fails_does_not_keep_the_others_from_being_applied(pools: Fixture) -> None:
    await pools.store.put(spec("a", "ten_1"), pools.manage.quota)
    await pools.store.put(spec("b", "ten_2"), pools.manage.quota)
    pools.cluster.failures = {"a": Unavailable("no")}

    await pools.reconciler.run_once()

    assert pools.cluster.applied.keys() == {"b"}


async def test_a_pool_is_removed_when_it_has_drained(pools: Fixture) -> None:
    await pools.manage.put(spec())
    pools.store.unfinished["gold"] = 1
    assert (await pools.manage.delete("gold")).state is PoolState.DRAINING
    pools.clock.advance(SETTLE + timedelta(seconds=1))
    await pools.reconciler.run_once()
    assert pools.cluster.applied.keys() == {"gold"}

    pools.store.unfinished["gold"] = 0
    await pools.reconciler.run_once()

    assert pools.cluster.applied == {}
    with pytest.raises(PoolNotFound):
        await pools.manage.get("gold")


async def test_a_pool_without_jobs_is_not_removed_while_a_submission_may_still_reach_it(pools: Fixture) -> None:
    await pools.manage.put(spec())
    await pools.manage.delete("gold")

    await pools.reconciler.run_once()

    assert pools.cluster.applied.keys() == {"gold"}


async def test_a_pool_whose_objects_cannot_be_deleted_is_not_forgotten(pools: Fixture) -> None:
    await pools.manage.put(spec())
    await pools.manage.delete("gold")
    pools.clock.advance(SETTLE)
    pools.cluster.failures = {"gold": Unavailable("no")}
    await pools.reconciler.run_once()
    assert [pool.name for pool in await pools.store.list()] == ["gold"]

    pools.cluster.failures = {}
    await pools.reconciler.run_once()

    assert (list(await pools.store.list()), pools.cluster.applied) == ([], {})


async def test_an_unknown_pool_is_not_found(pools: Fixture) -> None:
    for call in (pools.manage.get("lead"), pools.manage.delete("lead")):
        with pytest.raises(PoolNotFound):
            await call
