"""The orchestrator's jobs and queues in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import JobServiceServicer, QueueServiceServicer
from chassis.errors import ArgosyError, Kind, RemoteError
from chassis.tenancy import current_caller
from values.protos import duration_to_proto, timestamp_to_proto

CREATED_AT = datetime(2026, 1, 2, tzinfo=UTC)
FINAL = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)
CHAT = "/v1/chat/completions"
CHAT_BODY: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}]}
CHAT_JOB: dict[str, Any] = {"endpoint": CHAT, "body": CHAT_BODY}
JOB_FINISHED = RemoteError(Kind.CONFLICT, "JOB_FINISHED", "The job is finished.")
EVENT_ID_UNKNOWN = RemoteError(Kind.EXPIRED, "EVENT_ID_UNKNOWN", "Events after this one are not kept.")

Scripted = pb.WatchJobResponse | ArgosyError | asyncio.Event


def not_found(job_id: str) -> RemoteError:
    return RemoteError(Kind.NOT_FOUND, "JOB_NOT_FOUND", f"There is no job {job_id}.")


def a_job(job_id: str, state: pb.JobState.ValueType = pb.JOB_STATE_QUEUED, **fields: Any) -> pb.Job:
    job = pb.Job(
        id=job_id,
        endpoint="/v1/chat/completions",
        model="smollm2",
        pool="default",
        lane=pb.JOB_LANE_STANDARD,
        state=state,
        created_at=timestamp_to_proto(CREATED_AT),
        deadline_at=timestamp_to_proto(CREATED_AT + timedelta(days=1)),
    )
    job.MergeFrom(pb.Job(**fields))
    return job


def state_event(event_id: str, job: pb.Job) -> pb.WatchJobResponse:
    return pb.WatchJobResponse(event_id=event_id, job=job)


def delta_event(event_id: str, run: int, *payloads: bytes) -> pb.WatchJobResponse:
    return pb.WatchJobResponse(event_id=event_id, delta=pb.JobDelta(run=run, payloads=payloads))


class FakeJobs(JobServiceServicer):
    """Jobs by tenant. A test sets what `WatchJob` sends, and what refuses or interrupts a submission."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], pb.Job] = {}
        self.submissions: list[pb.SubmitJobRequest] = []
        self.refuse_with: list[ArgosyError] = []
        self.lose_answers = 0
        self.warnings: Sequence[str] = ()
        self.watches: list[pb.WatchJobRequest] = []
        self.events: Sequence[Scripted] = ()
        self.ended_watches = 0
        self.pieces: dict[str, Sequence[bytes]] = {}
        """Results that are read in pieces."""

    def put(self, tenant_id: str, job: pb.Job) -> pb.Job:
        job.tenant_id = tenant_id
        self.jobs[tenant_id, job.id] = job
        return job

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        self.submissions.append(request)
        if self.refuse_with:
            raise self.refuse_with.pop(0)
        job = a_job(request.job_id, endpoint=request.endpoint, metadata=dict(request.metadata))
        job.lane = request.lane or pb.JOB_LANE_STANDARD
        self.put(current_caller().principal.tenant_id, job)
        if self.lose_answers:
            self.lose_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "")
        return pb.SubmitJobResponse(job=job, warnings=self.warnings)

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=self._find(request.job_id))

    async def ReadJobResult(
        self, request: pb.ReadJobResultRequest, context: Any
    ) -> AsyncIterator[pb.ReadJobResultResponse]:
        self._find(request.job_id)
        for piece in self.pieces[request.job_id]:
            yield pb.ReadJobResultResponse(piece=piece)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        tenant_id = current_caller().principal.tenant_id
        found = [
            job
            for (owner, _), job in self.jobs.items()
            if owner == tenant_id
            and (not request.states or job.state in request.states)
            and request.endpoint in ("", job.endpoint)
            and request.model in ("", job.model)
        ]
        jobs, has_more = page_of(found, request.after, request.limit)
        return pb.ListJobsResponse(jobs=jobs, has_more=has_more)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        job = self._find(request.job_id)
        if job.state in FINAL:
            raise JOB_FINISHED
        if job.state == pb.JOB_STATE_RUNNING:
            job.cancel_requested = True
        else:
            job.state = pb.JOB_STATE_CANCELLED
        return pb.CancelJobResponse(job=job)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        self.watches.append(request)
        self._find(request.job_id)
        events = list(self.events)
        try:
            if events and isinstance(events[0], ArgosyError):
                raise events[0]
            if events:
                yield pb.WatchJobResponse()
            for scripted in events:
                if isinstance(scripted, ArgosyError):
                    raise scripted
                if isinstance(scripted, asyncio.Event):
                    await scripted.wait()
                else:
                    yield scripted
        finally:
            self.ended_watches += 1

    def _find(self, job_id: str) -> pb.Job:
        job = self.jobs.get((current_caller().principal.tenant_id, job_id))
        if job is None:
            raise not_found(job_id)
        return job


class FakeQueues(QueueServiceServicer):
    """The queues of the same jobs."""

    def __init__(self, jobs: FakeJobs) -> None:
        self._jobs = jobs
        self.queues: Sequence[pb.Queue] = (
            pb.Queue(
                pool="default",
                lane=pb.JOB_LANE_BATCH,
                queued=3,
                dispatched=2,
                running=1,
                oldest_wait=duration_to_proto(timedelta(seconds=7.5)),
                queued_tokens=900,
                work_seconds=4.5,
                slots=32,
                tenants=2,
            ),
            pb.Queue(pool="default", lane=pb.JOB_LANE_INTERACTIVE, slots=32),
        )
        self.paused: list[pb.QueueSelector] = []

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Any) -> pb.ListQueuesResponse:
        require_admin()
        return pb.ListQueuesResponse(queues=self.queues, paused=self.paused)

    async def PauseQueue(self, request: pb.PauseQueueRequest, context: Any) -> pb.PauseQueueResponse:
        require_admin()
        if request.selector not in self.paused:
            self.paused.append(request.selector)
        return pb.PauseQueueResponse()

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, context: Any) -> pb.ResumeQueueResponse:
        require_admin()
        self.paused = [selector for selector in self.paused if selector != request.selector]
        return pb.ResumeQueueResponse()

    async def ListAllJobs(self, request: pb.ListAllJobsRequest, context: Any) -> pb.ListAllJobsResponse:
        require_admin()
        found = [
            job
            for (owner, _), job in self._jobs.jobs.items()
            if job.state in request.states and request.tenant_id in ("", owner)
        ]
        jobs, has_more = page_of(found, request.after, request.limit)
        return pb.ListAllJobsResponse(jobs=jobs, has_more=has_more)

    async def InspectJob(self, request: pb.InspectJobRequest, context: Any) -> pb.InspectJobResponse:
        job = self._find(request.tenant_id, request.job_id)
        return pb.InspectJobResponse(job=job, worker_id="worker-1", epoch=6)

    async def RetryJob(self, request: pb.RetryJobRequest, context: Any) -> pb.RetryJobResponse:
        return pb.RetryJobResponse(job=self._end_quarantine(request.tenant_id, request.job_id, pb.JOB_STATE_QUEUED))

    async def DropJob(self, request: pb.DropJobRequest, context: Any) -> pb.DropJobResponse:
        return pb.DropJobResponse(job=self._end_quarantine(request.tenant_id, request.job_id, pb.JOB_STATE_FAILED))

    def _find(self, tenant_id: str, job_id: str) -> pb.Job:
        require_admin()
        job = self._jobs.jobs.get((tenant_id, job_id))
        if job is None:
            raise not_found(job_id)
        return job

    def _end_quarantine(self, tenant_id: str, job_id: str, state: pb.JobState.ValueType) -> pb.Job:
        job = self._find(tenant_id, job_id)
        if job.state != pb.JOB_STATE_QUARANTINED:
            raise RemoteError(Kind.CONFLICT, "JOB_NOT_QUARANTINED", "The job is not quarantined.")
        job.state = state
        return job


def page_of(jobs: Sequence[pb.Job], after: str, limit: int) -> tuple[list[pb.Job], bool]:
    """The newest jobs first, and whether there are more."""
    newest_first = sorted((job for job in jobs if not after or job.id < after), key=lambda job: job.id, reverse=True)
    return newest_first[:limit], len(newest_first) > limit


def require_admin() -> None:
    current_caller().principal.require("platform_admin")
