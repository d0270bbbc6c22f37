"""Background work of batches: every replica claims batches that are due, and moves each on."""

import asyncio

from chassis.errors import ArgosyError, Internal, Kind
from chassis.telemetry import bind, logger, span

from orchestrator.batches.model import BatchLeaseLost
from orchestrator.batches.ports import BatchClaim, BatchStore
from orchestrator.batches.run import LEASE, QUEUE_FULL_DELAY, RunBatch

MAX_CONCURRENT = 8
MAX_CRASHES = 5

log = logger("orchestrator.batches")


class BatchRunner:
    """Runs the steps of due batches, a few at a time; a failed step is tried again."""

    def __init__(self, run: RunBatch, store: BatchStore) -> None:
        self._run = run
        self._store = store
        self._running: set[asyncio.Task[None]] = set()

    async def run_due(self) -> None:
        """Claim batches that are due, as many as there is room for, and start their steps."""
        room = MAX_CONCURRENT - len(self._running)
        if room <= 0:
            return
        for claim in await self._store.claim_due(room, LEASE):
            task = asyncio.create_task(self._step(claim))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Cancel the running steps: after their leases another process does them again."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _step(self, claim: BatchClaim) -> None:
        batch = claim.batch
        with bind(tenant_id=batch.tenant_id, batch_id=batch.batch_id), span("batch", batch_id=batch.batch_id):
            try:
                if batch.crashes > MAX_CRASHES:
                    error = Internal("the batch could not be run: its process died or failed too often")
                    log.error("batch_failed", crashes=batch.crashes)
                    await self._run.give_up(claim, error)
                    return
                await self._run(claim)
            except BatchLeaseLost:
                log.info("batch_lease_lost")
            except ArgosyError as error:
                log.warning("batch_step_failed", reason=error.reason, state=batch.state)
                await self._retry_later(claim, counts=error.kind is not Kind.UNAVAILABLE or batch.crashes > MAX_CRASHES)
            except Exception:
                log.exception("batch_step_failed", state=batch.state)

    async def _retry_later(self, claim: BatchClaim, *, counts: bool) -> None:
        """A step that failed for lack of a peer is done again soon; one that failed otherwise, when its lease ends."""
        if counts:
            return
        try:
            await self._store.release(claim, QUEUE_FULL_DELAY)
        except ArgosyError as error:
            log.info("batch_not_released", reason=error.reason)
