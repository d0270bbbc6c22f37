"""Asks for dispatched jobs that no worker has claimed: they do not wait until Kafka has given their records away."""

import asyncio
from collections.abc import Callable, Sequence

from chassis.aio import wait_or_stop
from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError

from inference_worker.jobs.model import NO_RUN, Offer
from inference_worker.jobs.ports import JobObserver, Orchestrator
from inference_worker.jobs.worker import JobWorker

MAX_INTERVAL_SECONDS = 0.5
"""Between two questions while records arrive; each is one query of an index."""
MIN_INTERVAL_SECONDS = 0.02
"""After an answer that named jobs for free slots: records do not arrive, as while the group waits for a member that
died. It doubles with each answer that names none. So the workers of a large pool ask no more often than is of use."""


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
        self.interval_seconds = MAX_INTERVAL_SECONDS
        """Until the next question."""
        self._due = asyncio.Event()

    def wake(self) -> None:
        """Ask now."""
        self._due.set()

    async def run(self, stop: asyncio.Event) -> None:
        backoff = Backoff(min_seconds=MAX_INTERVAL_SECONDS, max_seconds=5.0)
        waking = asyncio.create_task(_wake_on_stop(stop, self._due))
        try:
            while not stop.is_set():
                self._due.clear()
                answered = await self.ask()
                if answered:
                    backoff.reset()
                await wait_or_stop(self._due, self.interval_seconds if answered else backoff.next())
        finally:
            waking.cancel()

    async def ask(self) -> bool:
        """Ask once; return whether there was an answer. A worker that drains takes nothing."""
        slots = self._worker.slots
        if not slots:
            return True
        free = max(0, slots - self._slots_used())
        try:
            found = await self._orchestrator.find_unclaimed(slots, free)
        except ArgosyError as error:
            self._observer.retried(NO_RUN, "find_unclaimed", error)
            self._take(())
            return False
        self._take(found)
        longer = min(2 * self.interval_seconds, MAX_INTERVAL_SECONDS)
        self.interval_seconds = MIN_INTERVAL_SECONDS if found and free else longer
        return True


async def _wake_on_stop(stop: asyncio.Event, due: asyncio.Event) -> None:
    await stop.wait()
    due.set()
