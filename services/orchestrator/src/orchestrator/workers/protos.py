"""Plans and their events as messages."""

from collections.abc import Iterable, Sequence

from argosy.inference.v1 import inference_pb2
from chassis.errors import Internal
from values.protos import (
    billing_unit_to_proto,
    duration_to_proto,
    inputs_to_proto,
    proto_to_error,
    proto_to_exposure_cause,
    proto_to_usage,
)

from orchestrator.usage.model import Attempt
from orchestrator.workers.model import (
    AnswerCheck,
    AttemptStarting,
    CallOutcome,
    CandidateRole,
    Chunk,
    EmbeddingPlan,
    EmbeddingResult,
    Event,
    Finished,
    Plan,
    ProviderCall,
    RerankPlan,
    RerankResult,
    Started,
)

_ROLE_TO_PROTO = {
    CandidateRole.PRIMARY: inference_pb2.CANDIDATE_ROLE_PRIMARY,
    CandidateRole.CONTEXT_OVERFLOW: inference_pb2.CANDIDATE_ROLE_CONTEXT_OVERFLOW,
    CandidateRole.CONTENT_POLICY: inference_pb2.CANDIDATE_ROLE_CONTENT_POLICY,
}
_CHECK_TO_PROTO = {
    AnswerCheck.NONE: inference_pb2.ANSWER_CHECK_UNSPECIFIED,
    AnswerCheck.NOT_EMPTY: inference_pb2.ANSWER_CHECK_NOT_EMPTY,
    AnswerCheck.JSON: inference_pb2.ANSWER_CHECK_JSON,
}

_OUTCOMES = {
    inference_pb2.ATTEMPT_OUTCOME_SUCCEEDED: CallOutcome.SUCCEEDED,
    inference_pb2.ATTEMPT_OUTCOME_REJECTED: CallOutcome.REJECTED,
    inference_pb2.ATTEMPT_OUTCOME_INTERRUPTED: CallOutcome.FAILED,
    inference_pb2.ATTEMPT_OUTCOME_TIMED_OUT: CallOutcome.FAILED,
}


def plan_to_proto(plan: Plan) -> inference_pb2.InferRequest:
    # Filled in place: a message given to the constructor of another is copied, and this one holds the bodies.
    request = inference_pb2.InferRequest()
    request.run.request_id = plan.request_id
    fill_plan(plan, request.run.plan)
    return request


def fill_plan(plan: Plan, message: inference_pb2.Plan) -> None:
    for one in plan.candidates:
        added = message.candidates.add(upstream=one.upstream, model=one.model, body=one.body)
        # Both are rare, and each is a lookup.
        if one.role is not CandidateRole.PRIMARY:
            added.role = _ROLE_TO_PROTO[one.role]
        if one.answer_check is not AnswerCheck.NONE:
            added.answer_check = _CHECK_TO_PROTO[one.answer_check]
    message.stream = plan.stream
    message.deadline.FromTimedelta(plan.deadline)
    message.first_byte_timeout.FromTimedelta(plan.first_byte_timeout)
    message.idle_timeout.FromTimedelta(plan.idle_timeout)


def embedding_plan_to_proto(plan: EmbeddingPlan) -> inference_pb2.EmbedRequest:
    message = inference_pb2.EmbedRequest(
        request_id=plan.request_id,
        candidates=[inference_pb2.Candidate(upstream=one.upstream, model=one.model) for one in plan.candidates],
        dimensions=plan.dimensions,
        refuse_truncation=plan.refuse_truncation,
        deadline=duration_to_proto(plan.deadline),
    )
    inputs_to_proto(plan.inputs, message)
    return message


def rerank_plan_to_proto(plan: RerankPlan) -> inference_pb2.RerankRequest:
    return inference_pb2.RerankRequest(
        request_id=plan.request_id,
        candidates=[inference_pb2.Candidate(upstream=one.upstream, model=one.model) for one in plan.candidates],
        query=plan.query,
        documents=plan.documents,
        deadline=duration_to_proto(plan.deadline),
        billing_unit=billing_unit_to_proto(plan.candidates[0].billing_unit),
    )


def proto_to_rerank_result(response: inference_pb2.RerankResponse) -> RerankResult:
    error = proto_to_error(response.error) if response.HasField("error") else None
    finished = Finished(proto_to_attempts(response.attempts), error)
    warnings = tuple(response.warnings)
    return RerankResult(tuple(response.scores), finished, response.retry_same, response.fallback, warnings)


def proto_to_event(response: inference_pb2.InferResponse) -> Event:
    """Read an event. Raises `Internal` for one that this version does not know."""
    event = response.WhichOneof("event")
    if event == "chunk":
        return Chunk(response.chunk.payloads[:])
    if event == "started":
        return Started(response.started.candidate)
    if event == "finished":
        finished = response.finished
        error = proto_to_error(finished.error) if finished.HasField("error") else None
        return Finished(
            proto_to_attempts(finished.attempts),
            error,
            finished.usage_payload,
            tuple(finished.warnings),
            tuple(map(_proto_to_call, finished.attempts)),
        )
    if event == "attempt_starting":
        return proto_to_starting(response.attempt_starting)
    raise Internal("the worker sent an unknown event")


def _proto_to_call(attempt: inference_pb2.Attempt) -> ProviderCall:
    first_byte, duration = attempt.first_byte_after, attempt.duration
    outcome = _OUTCOMES.get(attempt.outcome, CallOutcome.OTHER)
    return ProviderCall(
        attempt.candidate,
        CallOutcome.REFUSED if attempt.request_refused else outcome,
        first_byte.seconds + first_byte.nanos / 1e9,
        duration.seconds + duration.nanos / 1e9,
    )


def proto_to_embedding_result(pieces: Sequence[inference_pb2.EmbedResponse]) -> EmbeddingResult:
    """Read an answer in one piece or more: the first has everything but the vectors that follow."""
    response = pieces[0]
    error = proto_to_error(response.error) if response.HasField("error") else None
    vectors = tuple(vector.float32 for piece in pieces for vector in piece.vectors)
    finished = Finished(proto_to_attempts(response.attempts), error)
    return EmbeddingResult(vectors, finished, response.retry_same, response.fallback)


def proto_to_starting(message: inference_pb2.AttemptStarting) -> AttemptStarting:
    return AttemptStarting(message.number, message.candidate, proto_to_attempts(message.ended))


def proto_to_attempts(attempts: Iterable[inference_pb2.Attempt]) -> tuple[Attempt, ...]:
    return tuple(
        [
            Attempt(one.number, one.candidate, proto_to_usage(one.usage), proto_to_exposure_cause(one.exposure_cause))
            for one in attempts
        ]
    )
