"""Jobs over gRPC, for their tenants."""

from collections.abc import Awaitable, Callable
from typing import Any

from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import JobServiceServicer, add_JobServiceServicer_to_server
from chassis.errors import InvalidRequest, Unavailable
from chassis.grpc import Registration
from chassis.tenancy import Principal
from values.embeddings import PIECE_BYTES
from values.protos import proto_to_duration
from values.roles import current_member

from orchestrator.idempotency.model import IdempotencyKey, IdempotencyKeyReused, Resource, checked_key
from orchestrator.idempotency.ports import IdempotencyKeys
from orchestrator.jobs.cancel import Cancellations
from orchestrator.jobs.errors import JobIdReused, JobNotFound
from orchestrator.jobs.model import JobFilter, JobKey, Lane
from orchestrator.jobs.ports import JobReader
from orchestrator.jobs.protos import PROTO_TO_LANE, PROTO_TO_STATE, job_to_proto
from orchestrator.jobs.submit import Accepted, JobRequest, Submissions
from orchestrator.metrics import JOB_SUBMIT_SECONDS

Watch = Callable[[pb.WatchJobRequest, Any], Awaitable[None]]

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


class JobServicer(JobServiceServicer):
    """Jobs of the caller's tenant."""

    def __init__(
        self,
        *,
        submissions: Submissions,
        cancellations: Cancellations,
        reader: JobReader,
        watch: Watch,
        keys: IdempotencyKeys,
    ) -> None:
        """`watch` writes the events of a job to the context of the call."""
        self._submissions = submissions
        self._cancellations = cancellations
        self._reader = reader
        self._watch = watch
        self._keys = keys

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        principal = current_member()
        job = JobRequest(
            job_id=request.job_id,
            endpoint=request.endpoint,
            body=request.body,
            lane=proto_to_lane(request.lane),
            metadata=dict(request.metadata),
            deadline=proto_to_duration(request.deadline) if request.HasField("deadline") else None,
        )
        with JOB_SUBMIT_SECONDS.time():
            if request.idempotency_key:
                accepted = await self._submit_once(principal, job, checked_key(request.idempotency_key))
            else:
                accepted = await self._submissions.submit(principal, job)
        return pb.SubmitJobResponse(job=job_to_proto(accepted.job), warnings=accepted.warnings)

    async def _submit_once(self, principal: Principal, job: JobRequest, key: str) -> Accepted:
        """Submit under the id of the first request with this key: it is accepted once."""
        name = IdempotencyKey(principal.tenant_id, principal.key_id, Resource.JOB, key)
        job_id = await self._keys.resolve(name, job.job_id)
        try:
            return await self._submissions.submit(principal, job._replace(job_id=job_id))
        except JobIdReused:
            raise IdempotencyKeyReused(
                "the idempotency key was used for another request", param="idempotency-key"
            ) from None

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        job = await self._reader.get(JobKey(current_member().tenant_id, request.job_id))
        if job is None:
            raise JobNotFound(f"there is no job {request.job_id}", param="job_id")
        return pb.GetJobResponse(job=job_to_proto(job))

    async def ReadJobResult(self, request: pb.ReadJobResultRequest, context: Any) -> None:  # type: ignore[override]
        """Write the answer in pieces, each when the caller has read those before it. There is at least one."""
        job = await self._reader.get(JobKey(current_member().tenant_id, request.job_id))
        if job is None:
            raise JobNotFound(f"there is no job {request.job_id}", param="job_id")
        for start in range(0, len(job.result) or 1, PIECE_BYTES):
            await context.write(pb.ReadJobResultResponse(piece=job.result[start : start + PIECE_BYTES]))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        limit = checked_limit(request.limit)
        wanted = JobFilter(
            states=frozenset(PROTO_TO_STATE[state] for state in request.states if state in PROTO_TO_STATE),
            endpoint=request.endpoint,
            model=request.model,
            batch_id=request.batch_id,
            after=request.after,
            limit=limit,
        )
        jobs = await self._reader.list_jobs(current_member().tenant_id, wanted)
        return pb.ListJobsResponse(jobs=map(job_to_proto, jobs[:limit]), has_more=len(jobs) > limit)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        job = await self._cancellations.cancel(JobKey(current_member().tenant_id, request.job_id))
        return pb.CancelJobResponse(job=job_to_proto(job))

    def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> Awaitable[None]:  # type: ignore[override]
        return self._watch(request, context)


async def no_events(_request: pb.WatchJobRequest, _context: Any) -> None:
    """Stands in for a watch."""
    raise Unavailable("no events are kept of jobs")


def proto_to_lane(lane: pb.JobLane.ValueType) -> Lane | None:
    return PROTO_TO_LANE.get(lane)


def checked_limit(limit: int) -> int:
    """Return the size of a page. Raises `InvalidRequest`."""
    if not 0 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit is not a whole number from 1 to {MAX_LIMIT}", param="limit")
    return limit or DEFAULT_LIMIT


def job_registration(servicer: JobServicer) -> Registration:
    return add_JobServiceServicer_to_server, servicer, "argosy.orchestration.v1.JobService"
