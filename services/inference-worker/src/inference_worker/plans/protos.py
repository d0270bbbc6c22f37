"""Between the domain and the wire."""

from collections.abc import Sequence
from datetime import timedelta

from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2 as pb
from chassis.errors import ArgosyError, InvalidRequest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from inference_worker.domain.account import Attempt, Outcome
from inference_worker.domain.embed import Embedded
from inference_worker.domain.infer import Chunk, Finished, Started
from inference_worker.domain.plan import Candidate, Embedding, Plan
from inference_worker.domain.usage import Usage, UsageSource

MAX_CANDIDATES = 16
MAX_INPUTS = 2048

NOTHING = timedelta(0)

# For callers that do not say.
DEADLINE = timedelta(minutes=10)
FIRST_BYTE_TIMEOUT = timedelta(minutes=1)
IDLE_TIMEOUT = timedelta(minutes=1)

OUTCOMES = {
    Outcome.ANSWERED: pb.ATTEMPT_OUTCOME_SUCCEEDED,
    Outcome.REFUSED: pb.ATTEMPT_OUTCOME_REJECTED,
    Outcome.CUT: pb.ATTEMPT_OUTCOME_INTERRUPTED,
    Outcome.CANCELLED: pb.ATTEMPT_OUTCOME_CANCELLED,
    Outcome.TIMED_OUT: pb.ATTEMPT_OUTCOME_TIMED_OUT,
}

SOURCES = {
    UsageSource.REPORTED: common_pb2.USAGE_SOURCE_REPORTED,
    UsageSource.COUNTED: common_pb2.USAGE_SOURCE_COUNTED,
    UsageSource.UNKNOWN: common_pb2.USAGE_SOURCE_UNKNOWN,
}

STARTED = tuple(pb.InferResponse(started=pb.Started(candidate=place)) for place in range(MAX_CANDIDATES))


def from_proto_plan(plan: pb.Plan) -> Plan:
    """Raises `InvalidRequest` for a plan that cannot be run."""
    candidates = _from_proto_candidates(plan.candidates, "plan.candidates")
    if not all(candidate.body for candidate in candidates):
        raise InvalidRequest("a candidate has no body", param="plan.candidates.body")
    return Plan(
        candidates=candidates,
        stream=plan.stream,
        deadline=_duration(plan, "deadline", DEADLINE),
        first_byte_timeout=_duration(plan, "first_byte_timeout", FIRST_BYTE_TIMEOUT),
        idle_timeout=_duration(plan, "idle_timeout", IDLE_TIMEOUT),
    )


def from_proto_embedding(request: pb.EmbedRequest) -> Embedding:
    """Raises `InvalidRequest` for texts that cannot be embedded."""
    if not 1 <= len(request.inputs) <= MAX_INPUTS:
        raise InvalidRequest(f"1 to {MAX_INPUTS} inputs", param="inputs")
    if not all(request.inputs):
        raise InvalidRequest("an input is empty", param="inputs")
    if request.dimensions < 0:
        raise InvalidRequest("a vector has at least one dimension", param="dimensions")
    return Embedding(
        candidates=_from_proto_candidates(request.candidates, "candidates"),
        inputs=tuple(request.inputs),
        deadline=_duration(request, "deadline", DEADLINE),
        dimensions=request.dimensions or None,
    )


def to_proto_response(step: Started | Chunk) -> pb.InferResponse:
    """One step of a plan that goes on."""
    if isinstance(step, Started):
        return STARTED[step.candidate]
    response = pb.InferResponse()
    response.chunk.payloads.extend(step.payloads)
    return response


def to_proto_finished(finished: Finished) -> pb.InferResponse:
    """The last step of a plan."""
    response = pb.InferResponse()
    account = response.finished
    for attempt in finished.attempts:
        write_attempt(account.attempts.add(), attempt)
    if finished.failure is not None:
        account.failure.CopyFrom(to_proto_failure(finished.failure))
    account.usage_payload = finished.usage_payload
    return response


def to_proto_embedded(embedded: Embedded) -> pb.EmbedResponse:
    """Vectors, or why there are none."""
    response = pb.EmbedResponse()
    for vector in embedded.vectors:
        response.vectors.add(float32=vector)
    for attempt in embedded.attempts:
        write_attempt(response.attempts.add(), attempt)
    if embedded.failure is not None:
        response.failure.CopyFrom(to_proto_failure(embedded.failure))
    return response


def write_attempt(message: pb.Attempt, attempt: Attempt) -> None:
    """The account of one provider call. Written in place: making parts and copying them in takes thrice as long."""
    message.number = attempt.number
    message.candidate = attempt.candidate
    message.outcome = OUTCOMES[attempt.outcome]
    write_usage(message.usage, attempt.usage)
    if attempt.first_byte_after is not None:
        _write_duration(message.first_byte_after, attempt.first_byte_after)
    _write_duration(message.duration, attempt.duration)


def write_usage(message: common_pb2.TokenUsage, usage: Usage) -> None:
    """Counts that are unknown stay absent."""
    message.source = SOURCES[usage.source]
    if usage.input_tokens is not None:
        message.input_tokens = usage.input_tokens
    if usage.output_tokens is not None:
        message.output_tokens = usage.output_tokens


def to_proto_failure(failure: ArgosyError) -> pb.Failure:
    """Reason and message; nothing of the cause."""
    return pb.Failure(reason=failure.reason, message=failure.message)


def _from_proto_candidates(candidates: Sequence[pb.Candidate], param: str) -> tuple[Candidate, ...]:
    if not 1 <= len(candidates) <= MAX_CANDIDATES:
        raise InvalidRequest(f"1 to {MAX_CANDIDATES} candidates", param=param)
    found = tuple(Candidate(candidate.upstream, candidate.model, candidate.body) for candidate in candidates)
    if not all(candidate.upstream and candidate.model for candidate in found):
        raise InvalidRequest("a candidate has no upstream or no model", param=param)
    return found


def _duration(message: Message, field: str, default: timedelta) -> timedelta:
    if not message.HasField(field):
        return default
    given = getattr(message, field)
    duration = timedelta(0, given.seconds, given.nanos // 1000)
    if duration <= NOTHING:
        raise InvalidRequest("must be more than nothing", param=field)
    return duration


def _write_duration(message: Duration, duration: timedelta) -> None:
    # An assigned zero is present on the wire, too.
    message.seconds = duration.days * 86400 + duration.seconds
    message.nanos = duration.microseconds * 1000
