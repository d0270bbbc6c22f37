"""Cancels jobs; and retries or drops those in quarantine."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chassis.errors import Unavailable

from orchestrator.jobs.errors import JobDropped, JobFinished, JobNotFound, JobNotQuarantined
from orchestrator.jobs.model import Job, JobError, JobKey, JobState, job_error
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.ports import JobReader, JobSignals, JobStore
from orchestrator.jobs.settle import ended_waiting

MAX_TRIES = 10
"""Each of them lost to another change of the job."""
PAGE_SIZE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellations:
    """Ends jobs before their time."""

    store: JobStore
    reader: JobReader
    policy: JobPolicy
    signals: JobSignals
    on_queued: Callable[[], None]

    async def cancel(self, key: JobKey) -> Job:
        """Cancel a job: one that waits at once, one that runs as soon as its worker has stopped it.

        Asking again for a running one is no error. Raises `JobNotFound`, `JobFinished`, `Unavailable`.
        """
        for _ in range(MAX_TRIES):
            found = await self.store.read(key)
            if found is None:
                raise _not_found(key)
            job, now = found
            if job.is_final:
                raise JobFinished(f"the job {key.job_id} has {job.state}")
            if job.state is JobState.RUNNING:
                changed = await self._stop(job)
            else:
                (result,) = await self.store.end_waiting([ended_waiting(job, JobState.CANCELLED, now)])
                changed = result if isinstance(result, Job) else None
            if changed is not None:
                self.signals.changed(changed)
                return changed
        raise Unavailable("the job changes too fast to be cancelled")

    async def cancel_batch(self, tenant_id: str, batch_id: str) -> int:
        """Cancel all jobs of a batch that are not final; return how many, those included that still run."""
        count, after = 0, ""
        while jobs := await self.reader.list_unfinished(tenant_id, batch_id, after, PAGE_SIZE):
            found = await self.store.read(jobs[0].ref.key)
            now = jobs[0].created_at if found is None else found[1]
            waiting = [job for job in jobs if job.state is not JobState.RUNNING]
            results = await self.store.end_waiting([ended_waiting(job, JobState.CANCELLED, now) for job in waiting])
            done = {job.ref.key for job in results if isinstance(job, Job)}
            for job in jobs:
                if job.ref.key not in done:
                    # It runs, or has been dispatched or claimed in between.
                    done |= await self._cancel_if_unfinished(job.ref.key)
            count, after = count + len(done), jobs[-1].job_id
        return count

    async def retry(self, key: JobKey) -> Job:
        """Queue a quarantined job again, with fresh counters. Raises `JobNotFound`, `JobNotQuarantined`."""
        job = await self.store.retry_quarantined(key, self.policy.default_deadline)
        if job is None:
            await self._quarantined(key)
            raise Unavailable("the job has changed meanwhile")
        self.signals.changed(job)
        self.on_queued()
        return job

    async def drop(self, key: JobKey) -> Job:
        """Finish a quarantined job as failed. Raises `JobNotFound`, `JobNotQuarantined`."""
        job, now = await self._quarantined(key)
        error: JobError = job_error(JobDropped("the workers that ran the job died, and an operator gave it up"))
        (result,) = await self.store.end_waiting([ended_waiting(job, JobState.FAILED, now, error)])
        if not isinstance(result, Job):
            raise JobNotQuarantined(f"the job {key.job_id} is not quarantined any more")
        self.signals.changed(result)
        return result

    async def _quarantined(self, key: JobKey) -> tuple[Job, datetime]:
        found = await self.store.read(key)
        if found is None:
            raise _not_found(key)
        if found[0].state is not JobState.QUARANTINED:
            raise JobNotQuarantined(f"the job {key.job_id} is {found[0].state}")
        return found

    async def _stop(self, job: Job) -> Job | None:
        changed = await self.store.request_cancel(job.ref)
        if changed is not None:
            self.signals.cancel(changed.ref)
        return changed

    async def _cancel_if_unfinished(self, key: JobKey) -> set[JobKey]:
        try:
            await self.cancel(key)
        except (JobFinished, JobNotFound):
            return set()
        return {key}


def _not_found(key: JobKey) -> JobNotFound:
    return JobNotFound(f"there is no job {key.job_id}", param="job_id")
