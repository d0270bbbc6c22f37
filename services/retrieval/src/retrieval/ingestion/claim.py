"""The lease on a claimed attachment: renewed while a run works on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Protocol, TypeVar

from chassis.errors import ArgosyError

from retrieval.ingestion.model import ClaimLost

LEASE = timedelta(seconds=30)
HEARTBEATS_PER_LEASE = 3

C_contra = TypeVar("C_contra", contravariant=True)


class Leases(Protocol[C_contra]):
    """Leases on claims of one kind."""

    async def extend(self, claim: C_contra, lease: timedelta) -> None:
        """Extend the lease. Raises ClaimLost."""


@asynccontextmanager
async def heartbeat(store: Leases[C_contra], claim: C_contra, lease: timedelta) -> AsyncIterator[None]:
    """Extend the lease in the background. Failures are ignored: each write of the run checks the claim itself."""

    async def extend_forever() -> None:
        while True:
            await asyncio.sleep(lease.total_seconds() / HEARTBEATS_PER_LEASE)
            with suppress(ArgosyError, ClaimLost):
                await store.extend(claim, lease)

    task = asyncio.create_task(extend_forever())
    try:
        yield
    finally:
        task.cancel()
