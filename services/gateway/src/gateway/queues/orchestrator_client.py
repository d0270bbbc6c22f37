"""Queues and jobs of all tenants in the orchestrator, over gRPC."""

from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import QueueServiceStub
from chassis.grpc import Channel
from values.protos import proto_to_duration

from gateway.jobs.orchestrator_client import proto_to_job, proto_to_lane, state_to_proto
from gateway.queues.schemas import (
    InspectedJob,
    PauseRead,
    PauseSelector,
    QueueList,
    QueueRead,
    TenantJobRead,
)
from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse


class QueuesClient:
    """Acts on behalf of the current caller, an admin. All calls raise the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = QueueServiceStub(channel)

    async def list(self) -> QueueList:
        response = await self._stub.ListQueues(pb.ListQueuesRequest())
        return QueueList(
            data=[proto_to_queue(queue) for queue in response.queues],
            paused=[proto_to_pause(selector) for selector in response.paused],
        )

    async def pause(self, selector: PauseSelector) -> None:
        await self._stub.PauseQueue(pb.PauseQueueRequest(selector=selector_to_proto(selector)))

    async def resume(self, selector: PauseSelector) -> None:
        await self._stub.ResumeQueue(pb.ResumeQueueRequest(selector=selector_to_proto(selector)))

    async def list_jobs(self, page: PageRequest, state: str, tenant_id: str) -> ListResponse[TenantJobRead]:
        """Jobs of all tenants, or of one, in one state, newest first."""
        response = await self._stub.ListAllJobs(
            pb.ListAllJobsRequest(
                limit=page.limit, after=page.after, states=[state_to_proto(state)], tenant_id=tenant_id
            )
        )
        return ListResponse.of(map(proto_to_tenant_job, response.jobs), has_more=response.has_more)

    async def inspect(self, tenant_id: str, job_id: str) -> InspectedJob:
        """Raises JOB_NOT_FOUND."""
        response = await self._stub.InspectJob(pb.InspectJobRequest(tenant_id=tenant_id, job_id=job_id))
        return InspectedJob(
            tenant_id=response.job.tenant_id,
            project_id=response.job.project_id,
            job=proto_to_job(response.job),
            worker_id=response.worker_id or None,
            epoch=response.epoch,
        )

    async def retry(self, tenant_id: str, job_id: str) -> TenantJobRead:
        """Raises JOB_NOT_FOUND, JOB_NOT_QUARANTINED."""
        response = await self._stub.RetryJob(pb.RetryJobRequest(tenant_id=tenant_id, job_id=job_id))
        return proto_to_tenant_job(response.job)

    async def drop(self, tenant_id: str, job_id: str) -> TenantJobRead:
        """Raises JOB_NOT_FOUND, JOB_NOT_QUARANTINED."""
        response = await self._stub.DropJob(pb.DropJobRequest(tenant_id=tenant_id, job_id=job_id))
        return proto_to_tenant_job(response.job)


def selector_to_proto(selector: PauseSelector) -> pb.QueueSelector:
    return pb.QueueSelector(tenant_id=selector.tenant_id or "", pool=selector.pool or "", model=selector.model or "")


def proto_to_pause(message: pb.QueueSelector) -> PauseRead:
    return PauseRead(tenant_id=message.tenant_id or None, pool=message.pool or None, model=message.model or None)


def proto_to_queue(message: pb.Queue) -> QueueRead:
    waits = message.HasField("oldest_wait")
    return QueueRead(
        pool=message.pool,
        lane=proto_to_lane(message.lane),
        queued=message.queued,
        dispatched=message.dispatched,
        running=message.running,
        oldest_wait_seconds=proto_to_duration(message.oldest_wait).total_seconds() if waits else None,
        queued_tokens=message.queued_tokens,
        work_seconds=message.work_seconds if message.HasField("work_seconds") else None,
        slots=message.slots,
        tenants=message.tenants,
    )


def proto_to_tenant_job(message: pb.Job) -> TenantJobRead:
    return TenantJobRead(**dict(proto_to_job(message)), tenant_id=message.tenant_id, project_id=message.project_id)
