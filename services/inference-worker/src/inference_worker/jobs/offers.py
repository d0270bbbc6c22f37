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
"""Between two questions while records arrive; each is one query of an index."""
SHORT_INTERVAL_SECONDS = 0.1
"""While half of the slots or more are free and yet there are jobs that no worker has claimed: their records do not
arrive, as when the group waits for a member that died."""
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
            interval = await self.ask()
            if interval is not None:
                backoff.reset()
            await wait_or_stop(stop, backoff.next() if interval is None else interval)

    async def ask(self) -> float | None:
        """Ask once; return the seconds until the next question, or None without an answer.

        A worker that drains takes nothing.
        """
        slots = self._worker.slots
        if not slots:
            return INTERVAL_SECONDS
        free = max(0, slots - self._slots_used())
        try:
            found = await self._orchestrator.find_unclaimed(slots, free)
        except ArgosyError as error:
            self._observer.retried(NO_RUN, "find_unclaimed", error)
            self._take(())
            return None
        self._take(found)
        return SHORT_INTERVAL_SECONDS if found and 2 * free >= slots else INTERVAL_SECONDS
