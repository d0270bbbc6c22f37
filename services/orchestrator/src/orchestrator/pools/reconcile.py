"""Makes the cluster what the pools are to be, again and again."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from chassis.errors import ArgosyError

from orchestrator.pools.ports import PoolCluster, PoolStore

SETTLE = timedelta(seconds=30)
"""A submission that began before the drain has ended by then: longer than any statement may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """`run_once` is for `periodic`; every replica may run it, as each step may be repeated.

    It applies every pool again, since the template changes with an upgrade and objects may have been changed or deleted
    by hand. `on_failed` gets what could not be done for one pool; the others go on.
    """

    store: PoolStore
    cluster: PoolCluster
    on_failed: Callable[[str, ArgosyError], None]

    async def run_once(self) -> None:
        """Raises Unavailable when the store does not answer."""
        drained = {pool.name for pool in await self.store.drained(SETTLE)}
        for name in sorted(drained):
            try:
                # The objects go first: without its row they would be forgotten.
                await self.cluster.delete(name)
            except ArgosyError as error:
                self.on_failed(name, error)
                continue
            await self.store.remove(name)
        for pool in await self.store.list():
            if pool.name in drained:
                continue
            try:
                await self.cluster.apply(pool)
            except ArgosyError as error:
                self.on_failed(pool.name, error)
