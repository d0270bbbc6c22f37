"""Jobs and their events from messages."""

from typing import Any

from argosy.orchestration.v1 import jobs_pb2 as pb
from values.protos import proto_to_nano_usd, proto_to_timestamp, proto_to_usage

from orchestrator.jobs.events.model import JobEvent, StateChanged
from orchestrator.jobs.model import Job, JobError
from orchestrator.jobs.protos import PROTO_TO_LANE, PROTO_TO_STATE, job_to_proto


def proto_to_job(message: pb.Job) -> Job:
    """Read a job without its result. Raises KeyError for a state or lane that this version does not know."""

    def time(field: Any) -> Any:
        return proto_to_timestamp(getattr(message, field)) if message.HasField(field) else None

    error = message.error
    return Job(
        tenant_id=message.tenant_id,
        job_id=message.id,
        project_id=message.project_id,
        endpoint=message.endpoint,
        model=message.model,
        pool=message.pool,
        lane=PROTO_TO_LANE[message.lane],
        state=PROTO_TO_STATE[message.state],
        state_reason=message.state_reason,
        created_at=proto_to_timestamp(message.created_at),
        deadline_at=proto_to_timestamp(message.deadline_at),
        started_at=time("started_at"),
        finished_at=time("finished_at"),
        expires_at=time("expires_at"),
        errors=message.errors,
        crashes=message.crashes,
        error=JobError(error.kind, error.reason, error.message, error.param) if message.HasField("error") else None,
        usage=proto_to_usage(message.usage) if message.HasField("usage") else None,
        cost=proto_to_nano_usd(message.cost),
        metadata=dict(message.metadata),
        batch_id=message.batch_id or None,
        custom_id=message.custom_id or None,
        cancel_requested=message.cancel_requested,
    )


def event_to_proto(event: JobEvent) -> pb.WatchJobResponse:
    if isinstance(event, StateChanged):
        return pb.WatchJobResponse(event_id=event.event_id, job=job_to_proto(event.job))
    return pb.WatchJobResponse(event_id=event.event_id, delta=pb.JobDelta(run=event.run, payloads=list(event.payloads)))
