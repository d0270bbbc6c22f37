"""The connections of workers to this replica: when one ends, its worker has ended, or cannot be reached."""

import asyncio

from chassis.aio import wait_or_stop

from orchestrator.jobs.offers.push import OfferPush

MAX_HOLD_SECONDS = 3600.0
"""Below the time-out of the call: that is none that ends it by the worker's end."""


class WorkerConnections:
    """Holds connections until their workers end. A component: its `stop` ends all, and no worker is taken for ended.

    List it after the gRPC server, which would wait for them.
    """

    name = "job-worker-connections"

    def __init__(self, push: OfferPush) -> None:
        self._push = push
        self._stopping = asyncio.Event()

    async def hold(self, worker_id: str, pool: str, seconds: float = MAX_HOLD_SECONDS) -> None:
        """Return after some time, or when this replica stops. Cancelled when the connection ends."""
        try:
            await wait_or_stop(self._stopping, min(seconds, MAX_HOLD_SECONDS))
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                self._push.disconnected(worker_id, pool)
            raise

    async def start(self) -> None:
        """Do nothing: workers connect."""

    async def stop(self) -> None:
        self._stopping.set()
