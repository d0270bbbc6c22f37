"""Between messages and the domain, on the way out."""

from collections.abc import Iterable
from datetime import timedelta

from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2
from argosy.metering.v1 import metering_pb2
from argosy.retrieval.v1 import retrieval_pb2
from chassis.grpc import duration_to_proto

from orchestrator.domain.money import NanoUsd, Price
from orchestrator.domain.plan import Bound, EmbeddingPlan, Plan
from orchestrator.domain.ports import Failure, Finished, Passage, Reservation
from orchestrator.domain.usage import Attempt, TokenUsage, UsageSource

SOURCES = {
    common_pb2.USAGE_SOURCE_REPORTED: UsageSource.REPORTED,
    common_pb2.USAGE_SOURCE_COUNTED: UsageSource.COUNTED,
}
TO_SOURCES = {
    UsageSource.REPORTED: common_pb2.USAGE_SOURCE_REPORTED,
    UsageSource.COUNTED: common_pb2.USAGE_SOURCE_COUNTED,
    UsageSource.UNKNOWN: common_pb2.USAGE_SOURCE_UNKNOWN,
}


def from_proto_usage(usage: common_pb2.TokenUsage) -> TokenUsage:
    """What was not said is unknown."""
    return TokenUsage(
        SOURCES.get(usage.source, UsageSource.UNKNOWN),
        usage.input_tokens if usage.HasField("input_tokens") else None,
        usage.output_tokens if usage.HasField("output_tokens") else None,
    )


def fill_proto_usage(message: common_pb2.TokenUsage, usage: TokenUsage) -> None:
    """An absent count stays absent."""
    message.source = TO_SOURCES[usage.source]
    if usage.input_tokens is not None:
        message.input_tokens = usage.input_tokens
    if usage.output_tokens is not None:
        message.output_tokens = usage.output_tokens


def to_proto_run(plan: Plan) -> inference_pb2.InferRequest:
    """Ask for a plan to be run."""
    # Filled in place: a message given to the constructor of another is copied, and this one holds the bodies.
    request = inference_pb2.InferRequest()
    request.run.request_id = plan.request_id
    asked = request.run.plan
    for one in plan.candidates:
        asked.candidates.add(upstream=one.upstream, model=one.model, body=one.body)
    asked.stream = plan.stream
    asked.deadline.FromTimedelta(plan.deadline)
    asked.first_byte_timeout.FromTimedelta(plan.first_byte)
    asked.idle_timeout.FromTimedelta(plan.idle)
    return request


def to_proto_embed(plan: EmbeddingPlan) -> inference_pb2.EmbedRequest:
    """Ask for vectors."""
    return inference_pb2.EmbedRequest(
        request_id=plan.request_id,
        candidates=[inference_pb2.Candidate(upstream=one.upstream, model=one.model) for one in plan.candidates],
        inputs=plan.inputs,
        dimensions=plan.dimensions,
        deadline=duration_to_proto(plan.deadline),
    )


def from_proto_finished(finished: inference_pb2.Finished) -> Finished:
    """The account of a chat completion."""
    failure = finished.failure if finished.HasField("failure") else None
    return Finished(_attempts(finished.attempts), _failure(failure), finished.usage_payload)


def from_proto_embedded(embedded: inference_pb2.EmbedResponse) -> Finished:
    """The account of an embedding."""
    failure = embedded.failure if embedded.HasField("failure") else None
    return Finished(_attempts(embedded.attempts), _failure(failure))


def to_proto_reserve(request_id: str, bounds: Iterable[Bound], lease: timedelta) -> metering_pb2.ReserveRequest:
    """Ask for money to be set aside: for the dearest of the candidates."""
    request = metering_pb2.ReserveRequest(request_id=request_id)
    for bound in bounds:
        request.bounds.add(
            price_key=bound.price_key, input_tokens=bound.input_tokens, output_tokens=bound.output_tokens
        )
    request.lease.FromTimedelta(lease)
    return request


def from_proto_reservation(reserved: metering_pb2.ReserveResponse) -> Reservation:
    """What was set aside, at which prices."""
    return Reservation(
        NanoUsd(reserved.held.nano_usd),
        tuple(
            Price(
                price.price_key,
                price.version,
                NanoUsd(price.input_per_million.nano_usd),
                NanoUsd(price.output_per_million.nano_usd),
            )
            for price in reserved.prices
        ),
        reserved.soft_limit_passed,
    )


def from_proto_passage(passage: retrieval_pb2.Passage) -> Passage:
    """A passage that was found."""
    return Passage(passage.file_id, passage.filename, passage.page, passage.text, passage.score)


def _attempts(attempts: Iterable[inference_pb2.Attempt]) -> tuple[Attempt, ...]:
    return tuple(Attempt(one.number, one.candidate, from_proto_usage(one.usage)) for one in attempts)


def _failure(failure: inference_pb2.Failure | None) -> Failure | None:
    return None if failure is None else Failure(failure.reason, failure.message)
