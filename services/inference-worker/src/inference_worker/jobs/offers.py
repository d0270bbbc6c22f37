"""Asks for dispatched jobs that no worker has claimed: they do not wait until Kafka has given their records away."""

import asyncio
from collections.abc import Callable, Sequence

from chassis.aio import wait_or_stop
from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError

from inference_worker.jobs.model import Offer, RunRef
from inference_worker.jobs.ports import JobObserver, Orchestrator
from inference_worker.jobs.worker import JobWorker

INTERVAL_SECONDS = 0.5
"""So long a job waits at most that a dead worker had fetched; one call of one indexed query of each worker."""
NO_RUN = RunRef("", "", 0)


class Offers:
    """The body of a loop. The orchestrator names the jobs, and any number of workers may be given the same one."""

    def __init__(
        self,
        worker: JobWorker,
        orchestrator: Orchestrator,
        observer: JobObserver,
        slots_used: Callable[[], int],
        take: Callable[[Sequence[Offer]], None],
    ) -> None:
        """`take` gets all that may be claimed now, in their order; each call replaces what the one before gave."""
        self._worker = worker
        self._orchestrator = orchestrator
        self._observer = observer
        self._slots_used = slots_used
        self._take = take

    async def run(self, stop: asyncio.Event) -> None:
        backoff = Backoff(min_seconds=INTERVAL_SECONDS, max_seconds=5.0)
        while not stop.is_set():
            answered = await self.ask()
            if answered:
                backoff.reset()
            await wait_or_stop(stop, INTERVAL_SECONDS if answered else backoff.next())

    async def ask(self) -> bool:
        """Ask once; return whether there was an answer. A worker that drains takes nothing."""
        slots = self._worker.slots
        if not slots:
            return True
        try:
            found = await self._orchestrator.find_unclaimed(slots, max(0, slots - self._slots_used()))
        except ArgosyError as error:
            self._observer.retried(NO_RUN, "find_unclaimed", error)
            self._take(())
            return False
        self._take(found)
        return True
