"""Between the domain and the wire."""

from collections.abc import Sequence
from datetime import timedelta

from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2 as pb
from chassis.errors import ArgosyError, InvalidRequest
from chassis.grpc import from_duration, to_duration
from google.protobuf.message import Message

from inference_worker.domain.account import Attempt, Outcome
from inference_worker.domain.embed import Embedded
from inference_worker.domain.infer import Chunk, Finished, Started
from inference_worker.domain.plan import Candidate, Embedding, Plan
from inference_worker.domain.usage import Usage, UsageSource

MAX_CANDIDATES = 16
MAX_INPUTS = 2048

# For callers that do not say.
DEADLINE = timedelta(minutes=10)
FIRST_BYTE_TIMEOUT = timedelta(minutes=1)
IDLE_TIMEOUT = timedelta(minutes=1)

OUTCOMES = {
    Outcome.ANSWERED: pb.ATTEMPT_OUTCOME_ANSWERED,
    Outcome.REFUSED: pb.ATTEMPT_OUTCOME_REFUSED,
    Outcome.CUT: pb.ATTEMPT_OUTCOME_CUT,
    Outcome.CANCELLED: pb.ATTEMPT_OUTCOME_CANCELLED,
    Outcome.TIMED_OUT: pb.ATTEMPT_OUTCOME_TIMED_OUT,
}

SOURCES = {
    UsageSource.REPORTED: common_pb2.USAGE_SOURCE_REPORTED,
    UsageSource.COUNTED: common_pb2.USAGE_SOURCE_COUNTED,
    UsageSource.UNKNOWN: common_pb2.USAGE_SOURCE_UNKNOWN,
}


def from_proto_plan(plan: pb.Plan) -> Plan:
    """Raises `InvalidRequest` for a plan that cannot be run."""
    if any(not candidate.body for candidate in plan.candidates):
        raise InvalidRequest("a candidate has no body", param="plan.candidates.body")
    return Plan(
        candidates=_from_proto_candidates(plan.candidates, "plan.candidates"),
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
    if isinstance(step, Chunk):
        return pb.InferResponse(chunk=pb.Chunk(payloads=step.payloads))
    return pb.InferResponse(started=pb.Started(candidate=step.candidate))


def to_proto_finished(finished: Finished) -> pb.InferResponse:
    """The last step of a plan."""
    return pb.InferResponse(
        finished=pb.Finished(
            attempts=map(to_proto_attempt, finished.attempts),
            failure=to_proto_failure(finished.failure),
            usage_payload=finished.usage_payload,
        )
    )


def to_proto_embedded(embedded: Embedded) -> pb.EmbedResponse:
    """Vectors, or why there are none."""
    return pb.EmbedResponse(
        vectors=[pb.Vector(float32=vector) for vector in embedded.vectors],
        attempts=map(to_proto_attempt, embedded.attempts),
        failure=to_proto_failure(embedded.failure),
    )


def to_proto_attempt(attempt: Attempt) -> pb.Attempt:
    """The account of one provider call."""
    first_byte_after = attempt.first_byte_after
    return pb.Attempt(
        number=attempt.number,
        candidate=attempt.candidate,
        outcome=OUTCOMES[attempt.outcome],
        usage=to_proto_usage(attempt.usage),
        first_byte_after=None if first_byte_after is None else to_duration(first_byte_after),
        duration=to_duration(attempt.duration),
    )


def to_proto_usage(usage: Usage) -> common_pb2.TokenUsage:
    """Counts that are unknown stay absent."""
    return common_pb2.TokenUsage(
        source=SOURCES[usage.source], input_tokens=usage.input_tokens, output_tokens=usage.output_tokens
    )


def to_proto_failure(failure: ArgosyError | None) -> pb.Failure | None:
    """Reason and message; nothing of the cause."""
    return None if failure is None else pb.Failure(reason=failure.reason, message=failure.message)


def _from_proto_candidates(candidates: Sequence[pb.Candidate], param: str) -> tuple[Candidate, ...]:
    if not 1 <= len(candidates) <= MAX_CANDIDATES:
        raise InvalidRequest(f"1 to {MAX_CANDIDATES} candidates", param=param)
    if not all(candidate.upstream and candidate.model for candidate in candidates):
        raise InvalidRequest("a candidate has no upstream or no model", param=param)
    return tuple(Candidate(candidate.upstream, candidate.model, candidate.body) for candidate in candidates)


def _duration(message: Message, field: str, default: timedelta) -> timedelta:
    if not message.HasField(field):
        return default
    duration = from_duration(getattr(message, field))
    if duration <= timedelta(0):
        raise InvalidRequest("must be more than nothing", param=field)
    return duration
