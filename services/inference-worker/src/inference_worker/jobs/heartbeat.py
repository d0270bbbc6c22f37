"""Says that this worker lives, and stops runs that are not its own any more."""

import asyncio

from chassis.errors import ArgosyError

from inference_worker.jobs.model import NO_RUN
from inference_worker.jobs.ports import JobObserver, Orchestrator
from inference_worker.jobs.worker import JobWorker

INTERVAL_SECONDS = 5.0
HEARTBEATS_PER_LEASE = 3
"""Two may be late or lost before a run is; so a shorter lease than 15 s has heartbeats that are closer."""
RETRY_SECONDS = 1.0


class Heartbeats:
    """The body of a loop: one call extends the leases of all runs.

    A run whose lease was not extended in time is stopped without a report: another worker may have its job by then,
    and the orchestrator would refuse the report.
    """

    def __init__(self, worker: JobWorker, orchestrator: Orchestrator, observer: JobObserver) -> None:
        self._worker = worker
        self._orchestrator = orchestrator
        self._observer = observer
        self._due = asyncio.Event()

    def wake(self) -> None:
        """Send the next one now."""
        self._due.set()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._due.clear()
            self.lose_overdue()
            seconds = INTERVAL_SECONDS if await self.beat() else RETRY_SECONDS
            await self._wait(stop, seconds)

    def _interval_seconds(self) -> float:
        """By the shortest lease of the runs of now: one may have begun while the loop waits."""
        leases = [active.job.lease.total_seconds() for active in self._worker.runs.values()]
        return min([INTERVAL_SECONDS, *(lease / HEARTBEATS_PER_LEASE for lease in leases)])

    async def beat(self) -> bool:
        """Send one heartbeat, and do what it answers; return whether it was answered."""
        worker, sent_at = self._worker, asyncio.get_running_loop().time()
        runs = tuple(worker.runs.values())
        try:
            answer = await self._orchestrator.heartbeat(worker.slots, [active.ref for active in runs])
        except ArgosyError as error:
            self._observer.retried(NO_RUN, "heartbeat", error)
            return False
        for active in runs:
            if active.ref in answer.lost:
                active.lose()
                continue
            active.lease_until = sent_at + active.job.lease.total_seconds()
            if active.ref in answer.cancelled:
                worker.cancel(active.ref)
        return True

    def lose_overdue(self) -> None:
        """Stop the runs whose leases have run out."""
        now = asyncio.get_running_loop().time()
        for active in tuple(self._worker.runs.values()):
            if now > active.lease_until:
                active.lose()

    async def _wait(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait for the next heartbeat; meanwhile, look at the leases each second."""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        while not stop.is_set() and not self._due.is_set():
            due_at = began_at + min(seconds, self._interval_seconds())
            if loop.time() >= due_at:
                return
            try:
                async with asyncio.timeout(min(RETRY_SECONDS, due_at - loop.time())):
                    await self._due.wait()
            except TimeoutError:
                self.lose_overdue()
