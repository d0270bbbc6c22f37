"""Jobs as messages."""

from collections.abc import Mapping
from datetime import datetime

from argosy.common.v1 import common_pb2
from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.events_pb2 import JobDispatched, JobFinished
from values.limits import MAX_CHAT_BYTES
from values.protos import usage_to_proto

from orchestrator.jobs.model import Job, JobError, JobState, Lane, RunRef

STATE_TO_PROTO: Mapping[JobState, pb.JobState.ValueType] = {
    JobState.QUEUED: pb.JOB_STATE_QUEUED,
    JobState.DISPATCHED: pb.JOB_STATE_DISPATCHED,
    JobState.RUNNING: pb.JOB_STATE_RUNNING,
    JobState.SUCCEEDED: pb.JOB_STATE_SUCCEEDED,
    JobState.FAILED: pb.JOB_STATE_FAILED,
    JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
    JobState.QUARANTINED: pb.JOB_STATE_QUARANTINED,
}
PROTO_TO_STATE = {number: state for state, number in STATE_TO_PROTO.items()}
LANE_TO_PROTO: Mapping[Lane, pb.JobLane.ValueType] = {
    Lane.INTERACTIVE: pb.JOB_LANE_INTERACTIVE,
    Lane.STANDARD: pb.JOB_LANE_STANDARD,
    Lane.BATCH: pb.JOB_LANE_BATCH,
}
PROTO_TO_LANE = {number: lane for lane, number in LANE_TO_PROTO.items()}


MAX_RESULT_BYTES = MAX_CHAT_BYTES
"""A result that is larger does not fit into a message: it is read in pieces."""


def job_to_proto(job: Job) -> pb.Job:
    message = pb.Job(
        id=job.job_id,
        tenant_id=job.tenant_id,
        project_id=job.project_id,
        endpoint=job.endpoint,
        model=job.model,
        pool=job.pool,
        lane=LANE_TO_PROTO[job.lane],
        state=STATE_TO_PROTO[job.state],
        state_reason=job.state_reason,
        errors=job.errors,
        # The claim counts as a crash until the run ends: of a run that goes on, nobody is to read that it has crashed.
        crashes=job.crashes - (job.state is JobState.RUNNING and job.crashes > 0),
        result=job.result if len(job.result) <= MAX_RESULT_BYTES else b"",
        result_bytes=len(job.result),
        metadata=job.metadata,
        batch_id=job.batch_id or "",
        custom_id=job.custom_id or "",
        cancel_requested=job.cancel_requested,
    )
    message.created_at.FromDatetime(job.created_at)
    message.deadline_at.FromDatetime(job.deadline_at)
    for name in ("started_at", "finished_at", "expires_at"):
        if (at := getattr(job, name)) is not None:
            getattr(message, name).FromDatetime(at)
    if job.error is not None:
        job_error_to_proto(job.error, message.error)
    if job.usage is not None:
        usage_to_proto(job.usage, message.usage)
        message.cost.nano_usd = job.cost
    return message


def job_error_to_proto(error: JobError, message: common_pb2.Error) -> None:
    message.kind, message.reason, message.message, message.param = error


def run_to_proto(run: RunRef) -> pb.JobRunRef:
    return pb.JobRunRef(tenant_id=run.tenant_id, job_id=run.job_id, epoch=run.epoch)


def proto_to_run(message: pb.JobRunRef) -> RunRef:
    return RunRef(message.tenant_id, message.job_id, message.epoch)


def job_finished(event_id: str, job: Job, at: datetime) -> bytes:
    """Render the event of a final job, without its result."""
    event = JobFinished(job=job_to_proto(job))
    event.job.ClearField("result")
    event.meta.event_id, event.meta.tenant_id = event_id, job.tenant_id
    event.meta.occurred_at.FromDatetime(at)
    return event.SerializeToString()


def job_dispatched(event_id: str, run: RunRef, at: datetime) -> bytes:
    """Render the record that wakes a worker."""
    event = JobDispatched(job_id=run.job_id, epoch=run.epoch)
    event.meta.event_id, event.meta.tenant_id = event_id, run.tenant_id
    event.meta.occurred_at.FromDatetime(at)
    return event.SerializeToString()
