"""The ports of pools."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from orchestrator.pools.model import Pool, PoolQuota, PoolSpec, PoolWorkers


class PoolStore(Protocol):
    """What the pools are to be. All methods raise `Unavailable`."""

    async def get(self, name: str) -> Pool | None:
        """Read one pool."""
        ...

    async def list(self) -> Sequence[Pool]:
        """Read all pools, by name."""
        ...

    async def put(self, spec: PoolSpec, quota: PoolQuota) -> Pool:
        """Create or change a pool; from now on new jobs of its tenants are its own. One that drained is active again.

        Raises PoolQuotaExceeded, TenantHasPool; then nothing has changed.
        """
        ...

    async def drain(self, name: str) -> Pool | None:
        """Give it no new jobs; None when there is no such pool. Does nothing more when it drains already."""
        ...

    async def drained(self, settle: timedelta) -> Sequence[Pool]:
        """Pools that have drained for `settle`, and have no unfinished job."""
        ...

    async def remove(self, name: str) -> bool:
        """Forget a pool that drains and has no unfinished job; returns whether it did."""
        ...


class PoolCluster(Protocol):
    """The cluster that runs the workers. All methods raise `Unavailable`."""

    async def is_foreign(self, name: str) -> bool:
        """Whether the workers of this name exist and were not made here."""
        ...

    async def apply(self, pool: Pool) -> None:
        """Make its objects what they are to be; safe to repeat. Raises PoolNameTaken, PoolQuotaExceeded."""
        ...

    async def workers(self, name: str) -> PoolWorkers | None:
        """Count its workers; None when the cluster has none of its objects."""
        ...

    async def delete(self, name: str) -> None:
        """Delete its objects. Workers finish as they do at every end. Does nothing when there are none."""
        ...


class PoolTopics(Protocol):
    """The topics from which the workers of a pool take jobs."""

    async def ensure(self, name: str) -> None:
        """Create what is missing. Raises Unavailable."""
        ...
