"""Between messages and the domain, on the way in."""

from datetime import timedelta
from typing import assert_never

from argosy.common.v1 import common_pb2
from argosy.orchestration.v1 import orchestration_pb2 as pb
from chassis.grpc import from_duration, to_timestamp
from chassis.tenancy import Principal
from google.protobuf.duration_pb2 import Duration

from orchestrator.domain.embed import Embedded
from orchestrator.domain.generate import Begun, Done, Step
from orchestrator.domain.money import NanoUsd
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
    match step:
        case Payloads():
            return pb.GenerateResponse(chunk=pb.Chunk(payloads=step.payloads))
        case Begun():
            sources = [_source(source) for source in step.sources]
            return pb.GenerateResponse(begun=pb.Begun(sources=sources, soft_limit_passed=step.soft_limit_passed))
        case Done():
            return pb.GenerateResponse(done=_done(step))
        case _:
            assert_never(step)


def to_proto_embedded(embedded: Embedded) -> pb.EmbedResponse:
    """Vectors and their bill."""
    return pb.EmbedResponse(
        vectors=[pb.Vector(float32=vector) for vector in embedded.vectors],
        usage=_usage(embedded.bill.usage),
        cost=_money(embedded.bill.cost),
    )


def to_proto_model(route: Route) -> pb.Model:
    """A public model name."""
    return pb.Model(name=route.model, created_at=to_timestamp(route.created_at), task=TASKS[route.task])


def _time(deadline: Duration | None, seconds_left: float | None) -> timedelta | None:
    given = [] if deadline is None else [from_duration(deadline)]
    given += [] if seconds_left is None else [timedelta(seconds=seconds_left)]
    return min(given, default=None)


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


def _done(done: Done) -> pb.Done:
    message = pb.Done(usage=_usage(done.bill.usage), cost=_money(done.bill.cost), usage_payload=done.usage_payload)
    if done.failure is not None:
        message.failure.reason, message.failure.message = done.failure.reason, done.failure.message
    return message


def _usage(usage: TokenUsage) -> common_pb2.TokenUsage:
    return common_pb2.TokenUsage(
        source=SOURCES[usage.source], input_tokens=usage.input_tokens, output_tokens=usage.output_tokens
    )


def _money(amount: NanoUsd) -> common_pb2.Money:
    return common_pb2.Money(nano_usd=amount)
