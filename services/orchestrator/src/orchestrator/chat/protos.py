"""Between messages and the domain, on the way in."""

from datetime import timedelta
from typing import assert_never

from argosy.common.v1 import common_pb2
from argosy.orchestration.v1 import orchestration_pb2 as pb
from chassis.grpc import proto_to_duration, timestamp_to_proto
from chassis.tenancy import Principal
from google.protobuf.duration_pb2 import Duration

from orchestrator.domain.embed import Embedded
from orchestrator.domain.generate import Begun, Done, Step
from orchestrator.domain.ports import Payloads
from orchestrator.domain.prompt import Source
from orchestrator.domain.request import ChatRequest, EmbedRequest
from orchestrator.domain.routes import Route, Task
from orchestrator.domain.usage import TokenUsage, UsageSource

SOURCES = {
    UsageSource.REPORTED: common_pb2.USAGE_SOURCE_REPORTED,
    UsageSource.COUNTED: common_pb2.USAGE_SOURCE_COUNTED,
    UsageSource.UNKNOWN: common_pb2.USAGE_SOURCE_UNKNOWN,
}
TASKS = {Task.CHAT: pb.MODEL_TASK_CHAT, Task.EMBEDDING: pb.MODEL_TASK_EMBEDDING}


def from_proto_generate(request: pb.GenerateRequest, principal: Principal, seconds_left: float | None) -> ChatRequest:
    """A chat completion; `seconds_left` is what the call itself has, if it is limited."""
    time = _time(request.deadline if request.HasField("deadline") else None, seconds_left)
    return ChatRequest(request.request_id, principal, request.model, request.body, request.stream, time)


def from_proto_embed(request: pb.EmbedRequest, principal: Principal, seconds_left: float | None) -> EmbedRequest:
    """Texts to embed."""
    time = _time(request.deadline if request.HasField("deadline") else None, seconds_left)
    return EmbedRequest(request.request_id, principal, request.model, tuple(request.inputs), request.dimensions, time)


def to_proto_step(step: Step) -> pb.GenerateResponse:
    """One step of an answer."""
    # Filled in place: a message given to the constructor of another is copied.
    message = pb.GenerateResponse()
    match step:
        case Payloads():
            message.chunk.payloads.extend(step.payloads)
        case Begun():
            message.begun.SetInParent()
            message.begun.soft_limit_passed = step.soft_limit_passed
            message.begun.sources.extend(map(_source, step.sources))
        case Done():
            _fill_done(message.done, step)
        case _:
            assert_never(step)
    return message


def to_proto_embedded(embedded: Embedded) -> pb.EmbedResponse:
    """Vectors and their bill."""
    message = pb.EmbedResponse()
    for vector in embedded.vectors:
        message.vectors.add(float32=vector)
    _fill_usage(message.usage, embedded.bill.usage)
    message.cost.nano_usd = embedded.bill.cost
    return message


def to_proto_model(route: Route) -> pb.Model:
    """A public model name."""
    return pb.Model(name=route.model, created_at=timestamp_to_proto(route.created_at), task=TASKS[route.task])


def _time(deadline: Duration | None, seconds_left: float | None) -> timedelta | None:
    left = None if seconds_left is None else timedelta(seconds=seconds_left)
    if deadline is None:
        return left
    given = proto_to_duration(deadline)
    return given if left is None else min(given, left)


def _source(source: Source) -> pb.Source:
    passage = source.passage
    return pb.Source(
        number=source.number,
        file_id=passage.file_id,
        filename=passage.filename,
        page=passage.page,
        text=passage.text,
        score=passage.score,
    )


def _fill_done(message: pb.Done, done: Done) -> None:
    _fill_usage(message.usage, done.bill.usage)
    message.cost.nano_usd = done.bill.cost
    message.usage_payload = done.usage_payload
    if done.failure is not None:
        message.failure.reason, message.failure.message = done.failure.reason, done.failure.message


def _fill_usage(message: common_pb2.TokenUsage, usage: TokenUsage) -> None:
    message.source = SOURCES[usage.source]
    if usage.input_tokens is not None:
        message.input_tokens = usage.input_tokens
    if usage.output_tokens is not None:
        message.output_tokens = usage.output_tokens
