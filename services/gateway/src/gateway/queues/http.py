"""`/admin/v1/queues` and `/admin/v1/jobs`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from gateway.audit.record import RecordAudit
from gateway.jobs.model import UnfinishedJobState
from gateway.queues.orchestrator_client import QueuesClient
from gateway.queues.schemas import InspectedJob, JobOfTenant, PauseSelector, QueueList, TenantJobRead
from gateway.web.dependencies import NEWEST_FIRST, CurrentCaller, PageQuery, PathId, provided
from gateway.web.schemas import ID_PATTERN, ListResponse

router = APIRouter(prefix="/admin/v1", tags=["Administration"])

Queues = Annotated[QueuesClient, Depends(provided(QueuesClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]
TenantId = Annotated[str, Query(pattern=ID_PATTERN, description="Whose job it is.")]
OfTenant = Annotated[str | None, Query(pattern=ID_PATTERN, description="Only jobs of this tenant.")]


@router.get("/queues")
async def list_queues(queues: Queues) -> QueueList:
    """List the queue of each pool and lane that has jobs or workers, and what is paused."""
    return await queues.list()


@router.post("/queues/pause", status_code=204)
async def pause_queues(body: PauseSelector, caller: CurrentCaller, queues: Queues, record_audit: Audit) -> Response:
    """Stop the dispatch of some jobs. Jobs are still accepted, and those that run go on. Idempotent."""
    tenant_id = body.tenant_id or caller.principal.tenant_id
    await record_audit(caller, tenant_id, "queue.pause", body.target, lambda: queues.pause(body))
    return Response(status_code=204)


@router.post("/queues/resume", status_code=204)
async def resume_queues(body: PauseSelector, caller: CurrentCaller, queues: Queues, record_audit: Audit) -> Response:
    """End the pause with exactly this selector. Idempotent."""
    tenant_id = body.tenant_id or caller.principal.tenant_id
    await record_audit(caller, tenant_id, "queue.resume", body.target, lambda: queues.resume(body))
    return Response(status_code=204)


@router.get("/jobs", dependencies=[NEWEST_FIRST])
async def list_all_jobs(
    queues: Queues, page: PageQuery, state: UnfinishedJobState = "quarantined", tenant_id: OfTenant = None
) -> ListResponse[TenantJobRead]:
    """List unfinished jobs of all tenants in one state, newest first."""
    return await queues.list_jobs(page, state, tenant_id or "")


@router.get("/jobs/{job_id}")
async def inspect_job(job_id: PathId, tenant_id: TenantId, queues: Queues) -> InspectedJob:
    """Read a job of any tenant, with its counters and its last error, without its result."""
    return await queues.inspect(tenant_id, job_id)


@router.post("/jobs/{job_id}/retry")
async def retry_job(
    job_id: PathId, body: JobOfTenant, caller: CurrentCaller, queues: Queues, record_audit: Audit
) -> TenantJobRead:
    """Queue a quarantined job again, with fresh counters."""
    return await record_audit(caller, body.tenant_id, "job.retry", job_id, lambda: queues.retry(body.tenant_id, job_id))


@router.post("/jobs/{job_id}/drop")
async def drop_job(
    job_id: PathId, body: JobOfTenant, caller: CurrentCaller, queues: Queues, record_audit: Audit
) -> TenantJobRead:
    """Finish a quarantined job as failed."""
    return await record_audit(caller, body.tenant_id, "job.drop", job_id, lambda: queues.drop(body.tenant_id, job_id))
