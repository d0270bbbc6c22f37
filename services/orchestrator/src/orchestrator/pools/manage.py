"""What operators do with pools."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.pools.model import Pool, PoolNameTaken, PoolNotFound, PoolQuota, PoolSpec, PoolWorkers
from orchestrator.pools.ports import PoolCluster, PoolStore, PoolTopics


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagePools:
    """Changes what the pools are to be, and makes it so at once; what fails here is tried again by the reconciler."""

    store: PoolStore
    cluster: PoolCluster
    topics: PoolTopics
    quota: PoolQuota

    async def put(self, spec: PoolSpec) -> Pool:
        """Create or change a pool.

        The topics come first, so that a worker finds them; then jobs may go to the pool, and wait for its workers.
        Raises InvalidRequest, PoolNameTaken, PoolQuotaExceeded, TenantHasPool, Unavailable.
        """
        spec.check()
        if await self.store.get(spec.name) is None and await self.cluster.is_foreign(spec.name):
            raise PoolNameTaken(f"the cluster has workers named {spec.name} that are not of a pool made here")
        await self.topics.ensure(spec.name)
        pool = await self.store.put(spec, self.quota)
        await self.cluster.apply(pool)
        return pool

    async def get(self, name: str) -> tuple[Pool, PoolWorkers | None]:
        """Raises PoolNotFound, Unavailable."""
        pool = await self.store.get(name)
        if pool is None:
            raise _not_found(name)
        return pool, await self.cluster.workers(name)

    async def list(self) -> Sequence[Pool]:
        """Raises Unavailable."""
        return await self.store.list()

    async def delete(self, name: str) -> Pool:
        """Drain a pool; the reconciler removes it when its jobs have ended. Raises PoolNotFound, Unavailable."""
        pool = await self.store.drain(name)
        if pool is None:
            raise _not_found(name)
        return pool


def _not_found(name: str) -> PoolNotFound:
    return PoolNotFound(f"no pool {name} was created here", param="name")
