"""The lease on a claimed attachment: renewed while a run works on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from chassis.errors import ArgosyError

from retrieval.ingestion.model import Claim, ClaimLost
from retrieval.ingestion.ports import IngestionStore

LEASE = timedelta(seconds=30)
HEARTBEATS_PER_LEASE = 3


@asynccontextmanager
async def heartbeat(store: IngestionStore, claim: Claim, lease: timedelta) -> AsyncIterator[None]:
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
