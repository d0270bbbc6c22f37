"""Between jobs and the messages of `argosy.orchestration.v1`."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from argosy.inference.v1 import inference_pb2
from argosy.orchestration.v1 import events_pb2, jobs_pb2
from chassis.errors import InvalidRequest
from google.protobuf.message import DecodeError
from values.embeddings import split_vectors
from values.limits import MAX_EMBEDDING_INPUTS
from values.protos import error_to_proto, proto_to_inputs

from inference_worker.jobs.model import (
    ClaimedJob,
    Dispatch,
    Embedding,
    HeartbeatAnswer,
    Lane,
    NoWork,
    Offer,
    RunRef,
    RunResult,
    Unrunnable,
    Work,
)
from inference_worker.plans.model import Attempt, AttemptStarting
from inference_worker.plans.protos import (
    DEFAULT_DEADLINE,
    attempt_to_proto,
    proto_to_candidates,
    proto_to_plan,
    proto_to_timeout,
)

_PROTO_TO_LANE: dict[int, Lane] = {
    jobs_pb2.JOB_LANE_INTERACTIVE: Lane.INTERACTIVE,
    jobs_pb2.JOB_LANE_STANDARD: Lane.STANDARD,
    jobs_pb2.JOB_LANE_BATCH: Lane.BATCH,
}
DEFAULT_LEASE = timedelta(seconds=15)


class NotADispatch(ValueError):
    """A record that names no dispatch of a job."""


def proto_to_dispatch(value: bytes, lane: Lane) -> Dispatch:
    """Raises `NotADispatch`."""
    try:
        event = events_pb2.JobDispatched.FromString(value)
    except DecodeError as error:
        raise NotADispatch(f"not a JobDispatched: {error}") from error
    ref = RunRef(event.meta.tenant_id, event.job_id, event.epoch)
    if not (ref.tenant_id and ref.job_id and ref.epoch > 0):
        raise NotADispatch("a JobDispatched without tenant, job or epoch")
    at = event.meta.occurred_at.ToDatetime() if event.meta.HasField("occurred_at") else None
    return Dispatch(ref, lane, at)


def run_to_proto(run: RunRef) -> jobs_pb2.JobRunRef:
    return jobs_pb2.JobRunRef(tenant_id=run.tenant_id, job_id=run.job_id, epoch=run.epoch)


def proto_to_run(message: jobs_pb2.JobRunRef) -> RunRef:
    return RunRef(message.tenant_id, message.job_id, message.epoch)


def proto_to_claimed_job(message: jobs_pb2.ClaimJobResponse) -> ClaimedJob:
    """Work that cannot be read is `Unrunnable`: the job is claimed all the same, and has to be ended."""
    lease = message.lease.ToTimedelta() if message.HasField("lease") else DEFAULT_LEASE
    return ClaimedJob(proto_to_run(message.run), lease, message.request_id, _proto_to_work(message))


def _proto_to_work(message: jobs_pb2.ClaimJobResponse) -> Work:
    kind = message.WhichOneof("work")
    try:
        if kind == "none":
            return NoWork(message.none.reason)
        if kind == "chat":
            return proto_to_plan(message.chat)
        if kind == "embed":
            return _proto_to_embedding(message.embed)
    except InvalidRequest as error:
        return Unrunnable(error)
    return Unrunnable(InvalidRequest("this worker does not know the kind of work", param="work"))


def _proto_to_embedding(message: inference_pb2.EmbedRequest) -> Embedding:
    inputs = proto_to_inputs(message)
    if not 1 <= len(inputs) <= MAX_EMBEDDING_INPUTS or not all(inputs):
        raise InvalidRequest(f"1 to {MAX_EMBEDDING_INPUTS} inputs, none of them empty", param="inputs")
    return Embedding(
        candidates=proto_to_candidates(message.candidates, "candidates"),
        inputs=inputs,
        deadline=proto_to_timeout(message, "deadline", DEFAULT_DEADLINE),
        dimensions=message.dimensions if message.dimensions > 0 else None,
        refuse_truncation=message.refuse_truncation,
    )


def starting_to_proto(run: RunRef, starting: AttemptStarting) -> jobs_pb2.StartJobAttemptRequest:
    request = jobs_pb2.StartJobAttemptRequest(run=run_to_proto(run))
    request.attempt.number, request.attempt.candidate = starting.number, starting.candidate
    _fill_attempts(starting.ended, request.attempt.ended)
    return request


def result_to_protos(run: RunRef, result: RunResult) -> Iterator[jobs_pb2.CompleteJobRequest]:
    """Yield the end of a run in pieces, nearly always one: the first has everything but the vectors that follow."""
    first, *others = split_vectors(result.vectors)
    request = jobs_pb2.CompleteJobRequest(run=run_to_proto(run), result=result.body, vectors=_vectors(first))
    _fill_attempts(result.attempts, request.attempts)
    if result.error is not None:
        error_to_proto(result.error, request.error)
    yield request
    for vectors in others:
        yield jobs_pb2.CompleteJobRequest(vectors=_vectors(vectors))


def return_to_proto(run: RunRef, attempts: Sequence[Attempt]) -> jobs_pb2.ReturnJobRequest:
    request = jobs_pb2.ReturnJobRequest(run=run_to_proto(run))
    _fill_attempts(attempts, request.attempts)
    return request


def proto_to_heartbeat_answer(message: jobs_pb2.RecordHeartbeatResponse) -> HeartbeatAnswer:
    return HeartbeatAnswer(_runs(message.lost), _runs(message.cancelled))


def proto_to_offer(message: jobs_pb2.JobOffer) -> Offer:
    return Offer(proto_to_run(message.dispatch), _PROTO_TO_LANE.get(message.lane, Lane.BATCH))


def _vectors(vectors: Iterable[bytes]) -> Iterator[inference_pb2.Vector]:
    return (inference_pb2.Vector(float32=vector) for vector in vectors)


def _runs(messages: Iterable[jobs_pb2.JobRunRef]) -> frozenset[RunRef]:
    return frozenset(map(proto_to_run, messages))


def _fill_attempts(attempts: Iterable[Attempt], messages: Any) -> None:
    for attempt in attempts:
        attempt_to_proto(attempt, messages.add())
