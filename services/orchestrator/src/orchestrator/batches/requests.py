"""The requests of a batch as jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.errors import ArgosyError, Internal

from orchestrator.batches.model import COMPLETION_WINDOWS, Batch, BatchCancelled, Line, line_job_id
from orchestrator.batches.ports import JobResult
from orchestrator.jobs.cancel import Cancellations
from orchestrator.jobs.errors import JobNotFound, JobNotQuarantined
from orchestrator.jobs.model import Job, JobState, Lane
from orchestrator.jobs.ports import JobReader
from orchestrator.jobs.submit import JobRequest, Submissions

PAGE_SIZE: Final = 200


@dataclass(frozen=True, slots=True)
class JobRequests:
    """Implements BatchJobs with the jobs of the same process."""

    submissions: Submissions
    cancellations: Cancellations
    reader: JobReader

    async def submit(self, batch: Batch, lines: Sequence[Line]) -> list[ArgosyError | None]:
        # The same at each try, as the fingerprint of a job wants it; the batch itself ends its jobs with its window.
        deadline = COMPLETION_WINDOWS[batch.completion_window]
        requests = [
            JobRequest(
                job_id=line_job_id(batch.batch_id, line.number),
                endpoint=batch.endpoint,
                body=line.body,
                lane=Lane.BATCH,
                deadline=deadline,
                custom_id=line.custom_id,
            )
            for line in lines
        ]
        results = await self.submissions.submit_all(batch.principal, requests, batch_id=batch.batch_id)
        return [result if isinstance(result, ArgosyError) else None for result in results]

    async def unfinished(self, tenant_id: str, batch_id: str) -> bool:
        return await self.reader.is_running(tenant_id, batch_id)

    async def cancel(self, tenant_id: str, batch_id: str) -> None:
        await self.cancellations.cancel_batch(tenant_id, batch_id)

    async def drop_quarantined(self, tenant_id: str, batch_id: str) -> None:
        after = ""
        while jobs := await self.reader.list_unfinished(tenant_id, batch_id, after, PAGE_SIZE):
            for job in jobs:
                if job.state is JobState.QUARANTINED:
                    await self._drop(job)
            after = jobs[-1].job_id

    async def results(self, tenant_id: str, batch_id: str, *, after: str, limit: int) -> list[JobResult]:
        jobs = await self.reader.list_finished(tenant_id, batch_id, after, limit)
        return [job_to_result(job) for job in jobs]

    async def _drop(self, job: Job) -> None:
        try:
            await self.cancellations.drop(job.ref.key)
        except (JobNotFound, JobNotQuarantined):
            # An operator has retried or dropped it meanwhile.
            return


def job_to_result(job: Job) -> JobResult:
    """Make the result of a final job."""
    request_id, custom_id = job.ref.request_id, job.custom_id or ""
    if job.state is JobState.SUCCEEDED:
        return JobResult(job.job_id, custom_id, request_id, job.result)
    error: ArgosyError
    if job.error is not None:
        error = job.error.to_error()
    elif job.state is JobState.CANCELLED:
        error = BatchCancelled("the request was cancelled")
    else:
        error = Internal("the request failed")
    return JobResult(job.job_id, custom_id, request_id, None, error)
