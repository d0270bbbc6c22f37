"""Jobs in the orchestrator, over gRPC. Another tenant's job is not found."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, NamedTuple

import grpc
from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import JobServiceStub
from chassis.errors import ArgosyError, Internal, Kind, Unavailable
from chassis.grpc import Channel
from chassis.http import openai_error
from google.protobuf.timestamp_pb2 import Timestamp
from values.money import nano_usd_to_usd
from values.protos import duration_to_proto, proto_to_error, proto_to_nano_usd, proto_to_timestamp, proto_to_usage

from gateway.jobs.model import FINAL_STATES, JobFilter, JobLane, JobState, JobSubmission
from gateway.jobs.schemas import JobError, JobRead, JobUsage
from gateway.jobs.stream import Delta, JobEvent, StateChanged
from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse, unix_seconds

# After this a client connects again, with the id of the last event that it has.
WATCH_TIMEOUT: Final = timedelta(hours=1)

# A state or lane of a newer version is shown as the one that promises the client least.
_PROTO_TO_STATE: dict[int, JobState] = {
    pb.JOB_STATE_QUEUED: "queued",
    pb.JOB_STATE_DISPATCHED: "dispatched",
    pb.JOB_STATE_RUNNING: "running",
    pb.JOB_STATE_SUCCEEDED: "succeeded",
    pb.JOB_STATE_FAILED: "failed",
    pb.JOB_STATE_CANCELLED: "cancelled",
    pb.JOB_STATE_QUARANTINED: "quarantined",
}
_PROTO_TO_LANE: dict[int, JobLane] = {
    pb.JOB_LANE_INTERACTIVE: "interactive",
    pb.JOB_LANE_STANDARD: "standard",
    pb.JOB_LANE_BATCH: "batch",
}


class JobEnd(NamedTuple):
    """A final job, and its result: empty without one."""

    job: JobRead
    result: bytes


class JobsClient:
    """Acts on behalf of the current caller. All calls raise the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = JobServiceStub(channel)

    async def submit(self, submission: JobSubmission) -> JobRead:
        """Return the accepted job.

        Raises QUEUE_FULL, LANE_NOT_ALLOWED, IDEMPOTENCY_KEY_REUSED, and what the endpoint raises for the body.
        """
        request = pb.SubmitJobRequest(
            job_id=submission.job_id,
            endpoint=submission.endpoint,
            body=submission.body,
            lane=lane_to_proto(submission.lane),
            metadata=submission.metadata,
            idempotency_key=submission.idempotency_key,
        )
        if submission.deadline is not None:
            request.deadline.CopyFrom(duration_to_proto(submission.deadline))
        try:
            response = await self._stub.SubmitJob(request)
        except Unavailable:
            # It may have been accepted. With the same id it is accepted once, so asking again is safe.
            response = await self._stub.SubmitJob(request)
        return proto_to_job(response.job, warnings=list(response.warnings))

    async def list(self, page: PageRequest, wanted: JobFilter) -> ListResponse[JobRead]:
        """Jobs without their results, newest first."""
        request = pb.ListJobsRequest(limit=page.limit, after=page.after, endpoint=wanted.endpoint, model=wanted.model)
        if wanted.state:
            request.states.append(state_to_proto(wanted.state))
        response = await self._stub.ListJobs(request)
        return ListResponse.of(map(proto_to_job, response.jobs), has_more=response.has_more)

    async def get(self, job_id: str) -> tuple[JobRead, bytes]:
        """Return a job and its result. Raises JOB_NOT_FOUND."""
        response = await self._stub.GetJob(pb.GetJobRequest(job_id=job_id))
        return proto_to_job(response.job), await self._read_result(response.job)

    async def _read_result(self, message: pb.Job) -> bytes:
        """Return the result: of the message, or in pieces when it is too large for one."""
        if message.result or not message.result_bytes:
            return message.result
        call = self._stub.ReadJobResult(pb.ReadJobResultRequest(job_id=message.id))
        return b"".join([response.piece async for response in call])

    async def cancel(self, job_id: str) -> JobRead:
        """Raises JOB_NOT_FOUND, JOB_FINISHED."""
        return proto_to_job((await self._stub.CancelJob(pb.CancelJobRequest(job_id=job_id))).job)

    async def wait(self, job_id: str, seconds: float) -> JobEnd | None:
        """Wait until a job is final, at most so long; None when it is not, or cannot be followed."""
        watch = self.watch(job_id, "")
        try:
            async with asyncio.timeout(seconds):
                while (event := await watch.read()) is not None:
                    if isinstance(event, StateChanged) and event.job.state in FINAL_STATES:
                        return JobEnd(event.job, event.result)
        except (TimeoutError, ArgosyError):
            pass
        finally:
            watch.cancel()
        return None

    def watch(self, job_id: str, after_event_id: str) -> "JobWatch":
        """Follow a job. The first read raises JOB_NOT_FOUND, EVENT_ID_UNKNOWN."""
        request = pb.WatchJobRequest(job_id=job_id, after_event_id=after_event_id)
        call = self._stub.WatchJob(request, timeout=WATCH_TIMEOUT.total_seconds())
        return JobWatch(call, self._read_result)


class JobWatch:
    """Reads the events of a job."""

    def __init__(self, call: Any, read_result: Callable[[pb.Job], Awaitable[bytes]]) -> None:
        self._call = call
        self._read_result = read_result

    async def open(self) -> bool:
        """Wait until the orchestrator accepts; false when the client has had the job's last event already."""
        return await self._call.read() is not grpc.aio.EOF

    async def read(self) -> JobEvent | None:
        """Wait for the next event; None after the last."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            event = message.WhichOneof("event")
            if event == "job":
                return StateChanged(message.event_id, proto_to_job(message.job), await self._read_result(message.job))
            if event == "delta":
                return Delta(message.event_id, message.delta.run, list(message.delta.payloads))
        return None

    def cancel(self) -> None:
        """End the call. Does nothing when it is over."""
        self._call.cancel()


def proto_to_job(message: pb.Job, warnings: list[str] | None = None) -> JobRead:
    cost = proto_to_nano_usd(message.cost)
    return JobRead(
        id=message.id,
        endpoint=message.endpoint,
        model=message.model,
        pool=message.pool,
        lane=_PROTO_TO_LANE.get(message.lane, "batch"),
        state=_PROTO_TO_STATE.get(message.state, "queued"),
        state_reason=message.state_reason,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        started_at=_seconds(message, "started_at"),
        finished_at=_seconds(message, "finished_at"),
        deadline_at=_seconds(message, "deadline_at"),
        expires_at=_seconds(message, "expires_at"),
        cancel_requested=message.cancel_requested,
        errors=message.errors,
        crashes=message.crashes,
        error=_error(message),
        usage=_usage(message),
        cost_usd=nano_usd_to_usd(cost),
        cost_nano_usd=cost,
        metadata=dict(message.metadata),
        batch_id=message.batch_id or None,
        custom_id=message.custom_id or None,
        warnings=warnings or [],
    )


def state_to_proto(state: str) -> pb.JobState.ValueType:
    return pb.JobState.Value(f"JOB_STATE_{state.upper()}")


def lane_to_proto(lane: str) -> pb.JobLane.ValueType:
    return pb.JobLane.Value(f"JOB_LANE_{(lane or 'unspecified').upper()}")


def proto_to_lane(lane: pb.JobLane.ValueType) -> JobLane:
    return _PROTO_TO_LANE.get(lane, "batch")


def _seconds(message: pb.Job, field: Any) -> int | None:
    timestamp: Timestamp = getattr(message, field)
    return unix_seconds(proto_to_timestamp(timestamp)) if message.HasField(field) else None


def _error(message: pb.Job) -> JobError | None:
    if not message.HasField("error"):
        return None
    error = proto_to_error(message.error)
    # As a synchronous request: what a bug says is for our log.
    public = Internal("Something went wrong on our side.") if error.kind is Kind.INTERNAL else error
    return JobError.model_validate(openai_error(public)["error"])


def _usage(message: pb.Job) -> JobUsage | None:
    usage = proto_to_usage(message.usage)
    if usage.input_tokens is None:
        return None
    output = usage.output_tokens or 0  # embeddings have none
    return JobUsage(
        prompt_tokens=usage.input_tokens, completion_tokens=output, total_tokens=usage.input_tokens + output
    )
