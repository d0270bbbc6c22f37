"""Pools in memory: what they are to be, and a cluster that runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from chassis.errors import ArgosyError
from chassis.testing import FakeClock
from orchestrator.pools.model import Pool, PoolQuota, PoolQuotaExceeded, PoolSpec, PoolWorkers, TenantHasPool


def spec(name: str = "gold", *tenants: str, minimum: int = 0, maximum: int = 4) -> PoolSpec:
    return PoolSpec(name=name, tenant_ids=frozenset(tenants or {"ten_1"}), min_replicas=minimum, max_replicas=maximum)


class FakePoolStore:
    """`PoolStore`. A test sets `unfinished`, the jobs of a pool."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._pools: dict[str, Pool] = {}
        self.unfinished: dict[str, int] = {}

    async def get(self, name: str) -> Pool | None:
        pool = self._pools.get(name)
        return pool and replace(pool, unfinished_jobs=self.unfinished.get(name, 0))

    async def list(self) -> Sequence[Pool]:
        return [pool for name in sorted(self._pools) if (pool := await self.get(name))]

    async def put(self, spec: PoolSpec, quota: PoolQuota) -> Pool:
        others = [pool for pool in self._pools.values() if pool.name != spec.name]
        replicas = sum(pool.max_replicas for pool in others) + spec.max_replicas
        if len(others) + 1 > quota.max_pools or replicas > quota.max_replicas:
            raise PoolQuotaExceeded("too many")
        if any(pool.tenant_ids & spec.tenant_ids for pool in others):
            raise TenantHasPool("it has another", param="tenant_ids")
        known = self._pools.get(spec.name)
        self._pools[spec.name] = Pool(
            name=spec.name,
            tenant_ids=spec.tenant_ids,
            min_replicas=spec.min_replicas,
            max_replicas=spec.max_replicas,
            created_at=known.created_at if known else self._clock.now(),
        )
        pool = await self.get(spec.name)
        assert pool
        return pool

    async def drain(self, name: str) -> Pool | None:
        pool = self._pools.get(name)
        if pool and pool.draining_since is None:
            self._pools[name] = replace(pool, tenant_ids=frozenset(), draining_since=self._clock.now())
        return await self.get(name)

    async def drained(self, settle: timedelta) -> Sequence[Pool]:
        before = self._clock.now() - settle
        return [
            pool
            for pool in await self.list()
            if pool.draining_since and pool.draining_since <= before and not pool.unfinished_jobs
        ]

    async def remove(self, name: str) -> bool:
        pool = await self.get(name)
        if pool is None or pool.draining_since is None or pool.unfinished_jobs:
            return False
        del self._pools[name]
        return True


class FakePoolCluster:
    """`PoolCluster`. A test may set `failures` by pool, and `foreign` names."""

    def __init__(self) -> None:
        self.applied: dict[str, Pool] = {}
        self.foreign: set[str] = set()
        self.failures: Mapping[str, ArgosyError] = {}

    async def is_foreign(self, name: str) -> bool:
        return name in self.foreign

    async def apply(self, pool: Pool) -> None:
        self._fail(pool.name)
        self.applied[pool.name] = pool

    async def workers(self, name: str) -> PoolWorkers | None:
        pool = self.applied.get(name)
        return PoolWorkers(pool.min_replicas, pool.min_replicas) if pool else None

    async def delete(self, name: str) -> None:
        self._fail(name)
        self.applied.pop(name, None)

    def _fail(self, name: str) -> None:
        if name in self.failures:
            raise self.failures[name]


class FakePoolTopics:
    """`PoolTopics`."""

    def __init__(self) -> None:
        self.pools: list[str] = []

    async def ensure(self, name: str) -> None:
        self.pools.append(name)
