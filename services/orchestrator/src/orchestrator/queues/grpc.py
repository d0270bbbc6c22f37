"""The gRPC service of queues. Every method needs the role `platform_admin`."""

from collections.abc import Callable
from typing import Any

from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import QueueServiceServicer, add_QueueServiceServicer_to_server
from chassis.grpc import Registration
from values.roles import current_platform_admin

from orchestrator.jobs.cancel import Cancellations
from orchestrator.jobs.errors import JobNotFound
from orchestrator.jobs.grpc import checked_limit
from orchestrator.jobs.model import JobFilter, JobKey, JobState
from orchestrator.jobs.ports import JobReader
from orchestrator.jobs.protos import PROTO_TO_STATE, job_to_proto
from orchestrator.queues.ports import QueueStore
from orchestrator.queues.protos import figures_to_proto, proto_to_selector, selector_to_proto


class QueueServicer(QueueServiceServicer):
    """`on_resumed` wakes the dispatcher."""

    def __init__(
        self, queues: QueueStore, jobs: JobReader, cancellations: Cancellations, on_resumed: Callable[[], None]
    ) -> None:
        self._queues = queues
        self._jobs = jobs
        self._cancellations = cancellations
        self._on_resumed = on_resumed

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Any) -> pb.ListQueuesResponse:
        current_platform_admin()
        return pb.ListQueuesResponse(
            queues=[figures_to_proto(figures) for figures in await self._queues.read_figures()],
            paused=[selector_to_proto(selector) for selector in await self._queues.list_pauses()],
        )

    async def PauseQueue(self, request: pb.PauseQueueRequest, context: Any) -> pb.PauseQueueResponse:
        current_platform_admin()
        await self._queues.pause(proto_to_selector(request.selector))
        return pb.PauseQueueResponse()

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, context: Any) -> pb.ResumeQueueResponse:
        current_platform_admin()
        await self._queues.resume(proto_to_selector(request.selector))
        self._on_resumed()
        return pb.ResumeQueueResponse()

    async def ListAllJobs(self, request: pb.ListAllJobsRequest, context: Any) -> pb.ListAllJobsResponse:
        current_platform_admin()
        states = {PROTO_TO_STATE[state] for state in request.states if state in PROTO_TO_STATE}
        limit = checked_limit(request.limit)
        wanted = JobFilter(states=frozenset(states or {JobState.QUARANTINED}), after=request.after, limit=limit)
        jobs = await self._jobs.list_all(wanted, request.tenant_id)
        return pb.ListAllJobsResponse(jobs=map(job_to_proto, jobs[:limit]), has_more=len(jobs) > limit)

    async def InspectJob(self, request: pb.InspectJobRequest, context: Any) -> pb.InspectJobResponse:
        current_platform_admin()
        job = await self._jobs.get(JobKey(request.tenant_id, request.job_id))
        if job is None:
            raise JobNotFound(f"There is no job {request.job_id} of this tenant.", param="job_id")
        response = pb.InspectJobResponse(job=job_to_proto(job), worker_id=job.worker_id, epoch=job.epoch)
        response.job.ClearField("result")
        return response

    async def RetryJob(self, request: pb.RetryJobRequest, context: Any) -> pb.RetryJobResponse:
        current_platform_admin()
        job = await self._cancellations.retry(JobKey(request.tenant_id, request.job_id))
        return pb.RetryJobResponse(job=job_to_proto(job))

    async def DropJob(self, request: pb.DropJobRequest, context: Any) -> pb.DropJobResponse:
        current_platform_admin()
        job = await self._cancellations.drop(JobKey(request.tenant_id, request.job_id))
        return pb.DropJobResponse(job=job_to_proto(job))


def registration(servicer: QueueServicer) -> Registration:
    return add_QueueServiceServicer_to_server, servicer, "argosy.orchestration.v1.QueueService"
