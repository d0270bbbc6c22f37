"""End the quarantine of a job: it runs again, or it fails."""

from collections.abc import Callable
from datetime import datetime, timedelta

from chassis.errors import ArgosyError

from orchestrator.jobs.errors import JobDropped, JobNotFound, JobNotQuarantined
from orchestrator.jobs.model import Job, JobKey, JobState, job_error
from orchestrator.jobs.ports import JobSignals, JobStore
from orchestrator.jobs.settle import ended_waiting


class Quarantine:
    """What operators decide about quarantined jobs. Both raise JobNotFound, JobNotQuarantined, Unavailable."""

    def __init__(
        self, store: JobStore, signals: JobSignals, deadline: timedelta, on_queued: Callable[[], None]
    ) -> None:
        """A job that runs again gets a new `deadline`; `on_queued` wakes the dispatcher."""
        self._store = store
        self._signals = signals
        self._deadline = deadline
        self._on_queued = on_queued

    async def retry(self, key: JobKey) -> Job:
        """Queue the job again, with fresh counters."""
        await self._find(key)
        job = await self._store.retry_quarantined(key, self._deadline)
        if job is None:
            raise _not_quarantined()
        self._signals.changed(job)
        self._on_queued()
        return job

    async def drop(self, key: JobKey) -> Job:
        """Finish the job as failed."""
        job, now = await self._find(key)
        if job.state is not JobState.QUARANTINED:
            raise _not_quarantined()
        error = JobDropped("The workers that ran this job died too often, and an operator gave it up.")
        end = ended_waiting(job, JobState.FAILED, now, job_error(error))
        (ended,) = await self._store.end_waiting([end])
        if isinstance(ended, ArgosyError):
            raise _not_quarantined()
        self._signals.changed(ended)
        return ended

    async def _find(self, key: JobKey) -> tuple[Job, datetime]:
        found = await self._store.read(key)
        if found is None:
            raise JobNotFound(f"There is no job {key.job_id} of this tenant.", param="job_id")
        return found


def _not_quarantined() -> JobNotQuarantined:
    return JobNotQuarantined("The job is not quarantined.")
