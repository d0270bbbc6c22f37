"""Between plans and the messages of `argosy.inference.v1`."""

from collections.abc import Sequence
from datetime import timedelta

from argosy.inference.v1 import inference_pb2
from chassis.errors import InvalidRequest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from values.protos import error_to_proto, exposure_cause_to_proto, usage_to_proto

from inference_worker.plans.model import (
    AnswerCheck,
    Attempt,
    AttemptOutcome,
    AttemptStarting,
    Candidate,
    CandidateRole,
    Event,
    Finished,
    Plan,
    Started,
)

MAX_CANDIDATES = 16

# For callers that give none.
DEFAULT_DEADLINE = timedelta(minutes=10)
DEFAULT_FIRST_BYTE_TIMEOUT = timedelta(minutes=1)
DEFAULT_IDLE_TIMEOUT = timedelta(minutes=1)

ZERO = timedelta(0)

OUTCOMES = {
    AttemptOutcome.SUCCEEDED: inference_pb2.ATTEMPT_OUTCOME_SUCCEEDED,
    AttemptOutcome.REJECTED: inference_pb2.ATTEMPT_OUTCOME_REJECTED,
    AttemptOutcome.INTERRUPTED: inference_pb2.ATTEMPT_OUTCOME_INTERRUPTED,
    AttemptOutcome.CANCELLED: inference_pb2.ATTEMPT_OUTCOME_CANCELLED,
    AttemptOutcome.TIMED_OUT: inference_pb2.ATTEMPT_OUTCOME_TIMED_OUT,
    AttemptOutcome.PASSED_OVER: inference_pb2.ATTEMPT_OUTCOME_PASSED_OVER,
}

ROLES = {
    inference_pb2.CANDIDATE_ROLE_CONTEXT_OVERFLOW: CandidateRole.CONTEXT_OVERFLOW,
    inference_pb2.CANDIDATE_ROLE_CONTENT_POLICY: CandidateRole.CONTENT_POLICY,
}

CHECKS = {
    inference_pb2.ANSWER_CHECK_NOT_EMPTY: AnswerCheck.NOT_EMPTY,
    inference_pb2.ANSWER_CHECK_JSON: AnswerCheck.JSON,
}

STARTED = tuple(
    inference_pb2.InferResponse(started=inference_pb2.Started(candidate=index)) for index in range(MAX_CANDIDATES)
)


def proto_to_plan(plan: inference_pb2.Plan) -> Plan:
    """Raises `InvalidRequest` for a plan that cannot be run."""
    candidates = proto_to_candidates(plan.candidates, "plan.candidates")
    if not all(candidate.body for candidate in candidates):
        raise InvalidRequest("a candidate has no body", param="plan.candidates.body")
    return Plan(
        candidates=candidates,
        stream=plan.stream,
        deadline=proto_to_timeout(plan, "deadline", DEFAULT_DEADLINE),
        first_byte_timeout=proto_to_timeout(plan, "first_byte_timeout", DEFAULT_FIRST_BYTE_TIMEOUT),
        idle_timeout=proto_to_timeout(plan, "idle_timeout", DEFAULT_IDLE_TIMEOUT),
    )


def proto_to_candidates(candidates: Sequence[inference_pb2.Candidate], param: str) -> tuple[Candidate, ...]:
    """Raises `InvalidRequest`, naming `param`, when there are none, too many, or one lacks a name."""
    if not 1 <= len(candidates) <= MAX_CANDIDATES:
        raise InvalidRequest(f"1 to {MAX_CANDIDATES} candidates", param=param)
    converted = tuple(
        Candidate(
            one.upstream,
            one.model,
            one.body,
            ROLES.get(one.role, CandidateRole.PRIMARY),
            CHECKS.get(one.answer_check, AnswerCheck.NONE),
        )
        for one in candidates
    )
    if not all(candidate.upstream and candidate.model for candidate in converted):
        raise InvalidRequest("a candidate has no upstream or no model", param=param)
    return converted


def proto_to_timeout(message: Message, field: str, default: timedelta) -> timedelta:
    """Return a duration field. Raises `InvalidRequest` when it is not positive."""
    if not message.HasField(field):
        return default
    duration = getattr(message, field)
    timeout = timedelta(0, duration.seconds, duration.nanos // 1000)
    if timeout <= ZERO:
        raise InvalidRequest("must be positive", param=field)
    return timeout


def event_to_proto(event: Event) -> inference_pb2.InferResponse:
    if isinstance(event, Started):
        return STARTED[event.candidate]
    response = inference_pb2.InferResponse()
    if isinstance(event, AttemptStarting):
        starting = response.attempt_starting
        starting.number, starting.candidate = event.number, event.candidate
        for attempt in event.ended:
            attempt_to_proto(attempt, starting.ended.add())
        return response
    response.chunk.payloads.extend(event.payloads)
    return response


def finished_to_proto(finished: Finished) -> inference_pb2.InferResponse:
    response = inference_pb2.InferResponse()
    message = response.finished
    for attempt in finished.attempts:
        attempt_to_proto(attempt, message.attempts.add())
    if finished.error is not None:
        error_to_proto(finished.error, message.error)
    message.usage_payload = finished.usage_payload
    message.warnings.extend(finished.warnings)
    return response


def attempt_to_proto(attempt: Attempt, message: inference_pb2.Attempt) -> None:
    """Fill the message in place: building parts and copying them takes three times as long."""
    message.number = attempt.number
    message.candidate = attempt.candidate
    message.outcome = OUTCOMES[attempt.outcome]
    usage_to_proto(attempt.usage, message.usage)
    if attempt.first_byte_after is not None:
        _duration_to_proto(attempt.first_byte_after, message.first_byte_after)
    _duration_to_proto(attempt.duration, message.duration)
    if attempt.exposure_cause is not None:
        message.exposure_cause = exposure_cause_to_proto(attempt.exposure_cause)
    if attempt.request_refused:
        message.request_refused = True


def _duration_to_proto(duration: timedelta, message: Duration) -> None:
    # Assigning a zero makes the field present on the wire, too.
    message.seconds = duration.days * 86400 + duration.seconds
    message.nanos = duration.microseconds * 1000
