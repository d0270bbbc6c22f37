"""Follow a job: its log while there is one, and the store, which has the truth."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Final

from chassis.errors import Unavailable

from orchestrator.jobs.errors import JobNotFound
from orchestrator.jobs.events.model import FINAL_EVENT_ID, EventIdUnknown, JobEvent, StateChanged, is_event_id
from orchestrator.jobs.events.ports import Arrivals, JobEventLog
from orchestrator.jobs.model import Job, JobKey
from orchestrator.jobs.ports import JobReader

MIN_POLL_SECONDS: Final = 0.25
MAX_POLL_SECONDS: Final = 5.0
"""Between two reads of the store: a change that the log has lost is seen after this time."""
MAX_WAIT_SECONDS: Final = 1.0
"""Until a watch notices that the process stops."""


class JobWatcher:
    """Follows jobs of all callers. `stop` ends all of them, with an error that makes clients resume elsewhere."""

    def __init__(
        self,
        reader: JobReader,
        log: JobEventLog,
        *,
        min_poll_seconds: float = MIN_POLL_SECONDS,
        max_poll_seconds: float = MAX_POLL_SECONDS,
    ) -> None:
        self._reader = reader
        self._log = log
        self._min_poll_seconds = min_poll_seconds
        self._max_poll_seconds = max_poll_seconds
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def open(self, key: JobKey, after: str) -> AsyncGenerator[JobEvent, None] | None:
        """Return the events after an id; all that are kept when it is empty; None after the last event of a final job.

        Raises JobNotFound, EventIdUnknown, Unavailable.
        """
        job = await self._find(key)
        if after == FINAL_EVENT_ID and job.is_final:
            return None
        if after:
            await self._check(key, after)
        return self._events(key, after)

    async def _check(self, key: JobKey, after: str) -> None:
        known = is_event_id(after)
        if known:
            try:
                known = await self._log.contains(key, after)
            except Unavailable:
                return  # it cannot be known now; the states to come do not depend on it
        if not known:
            raise EventIdUnknown(
                "This job has no event of this id, or keeps it no longer. Follow it from the beginning, without an id."
            )

    async def _events(self, key: JobKey, cursor: str) -> AsyncGenerator[JobEvent, None]:
        now = asyncio.get_running_loop().time
        shown: Job | None = None
        is_final = False
        poll_seconds, poll_at = self._min_poll_seconds, now()
        arrivals: Arrivals | None = None
        with ExitStack() as followed:
            while not self._stopping.is_set():
                events = await self._read(key, cursor)
                for event in events:
                    cursor = event.event_id
                    if isinstance(event, StateChanged):
                        shown, is_final = event.job, event.job.is_final
                    if not is_final:  # the store has the final job with its result
                        yield event
                # Read after the log, the store is at least as new as the events that were shown.
                if is_final or now() >= poll_at:
                    job = await self._find_or_none(key)
                    if job is not None and job.is_final:
                        for event in await self._rest(key, cursor):
                            yield event
                        yield StateChanged(FINAL_EVENT_ID, job)
                        return
                    poll_seconds = min(2 * poll_seconds, self._max_poll_seconds)
                    if job is not None and (shown is None or differs(job, shown)):
                        shown, poll_seconds = job, self._min_poll_seconds
                        yield StateChanged("", job)
                    poll_at = now() + poll_seconds
                if not events:
                    arrivals = arrivals or followed.enter_context(self._log.follow(key, cursor))
                    await arrivals.wait(min(max(poll_at - now(), 0), MAX_WAIT_SECONDS))
        raise Unavailable("The service stops; resume after the last event.")

    async def _read(self, key: JobKey, cursor: str) -> list[JobEvent]:
        try:
            return list(await self._log.read(key, cursor))
        except Unavailable:
            return []

    async def _rest(self, key: JobKey, cursor: str) -> list[JobEvent]:
        """What was logged between the last read and the job's end: the last chunks of its answer."""
        rest: list[JobEvent] = []
        while events := await self._read(key, cursor):
            cursor = events[-1].event_id
            rest += [event for event in events if not (isinstance(event, StateChanged) and event.job.is_final)]
        return rest

    async def _find(self, key: JobKey) -> Job:
        job = await self._reader.get(key)
        if job is None:
            raise JobNotFound(f"There is no job {key.job_id}.", param="job_id")
        return job

    async def _find_or_none(self, key: JobKey) -> Job | None:
        """As `_find`; None while the store is unavailable: chunks still arrive."""
        try:
            return await self._find(key)
        except Unavailable:
            return None


def differs(job: Job, shown: Job) -> bool:
    """Whether a client would see a difference that matters between two states of a job."""
    fields = ("state", "state_reason", "errors", "started_at", "cancel_requested")
    return any(getattr(job, field) != getattr(shown, field) for field in fields)
