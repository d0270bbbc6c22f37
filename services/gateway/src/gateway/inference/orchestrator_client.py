"""Inference through the orchestrator."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from chassis.errors import ArgosyError, Kind, RemoteError
from chassis.grpc import Channel, duration_to_proto, proto_to_timestamp

from gateway.domain.inference import (
    Answer,
    Begun,
    ChatAsk,
    EmbedAsk,
    Embeddings,
    Finished,
    Model,
    Payloads,
    Source,
    Step,
    Task,
)
from gateway.domain.money import NanoUsd

from .convert import from_proto_tokens

# The orchestrator keeps the deadline and says what happened; this much later nobody listens any more.
GRACE = timedelta(seconds=5)

TASKS: dict[int, Task] = {pb.MODEL_TASK_CHAT: Task.CHAT, pb.MODEL_TASK_EMBEDDING: Task.EMBEDDING}

# A failure after the first byte travels as its reason alone.
KINDS = {
    "DEADLINE_EXCEEDED": Kind.TIMED_OUT,
    "UPSTREAM_TIMED_OUT": Kind.TIMED_OUT,
    "UPSTREAM_RATE_LIMITED": Kind.THROTTLED,
    "UPSTREAM_REFUSED": Kind.INVALID,
    "SERVICE_UNAVAILABLE": Kind.UNAVAILABLE,
    "INTERNAL": Kind.INTERNAL,
}


class GrpcInference:
    """`Inference` over gRPC."""

    def __init__(self, channel: Channel) -> None:
        self._stub = OrchestrationServiceStub(channel)

    def generate(self, ask: ChatAsk) -> Answer:
        """Ask; the first step says whether it was accepted."""
        request = pb.GenerateRequest(
            request_id=ask.request_id,
            model=ask.model,
            body=ask.body,
            stream=ask.stream,
            deadline=duration_to_proto(ask.deadline),
        )
        return GrpcAnswer(self._stub.Generate(request, timeout=_patience(ask.deadline)))

    async def embed(self, ask: EmbedAsk) -> Embeddings:
        """Turn texts into vectors."""
        response = await self._stub.Embed(
            pb.EmbedRequest(
                request_id=ask.request_id,
                model=ask.model,
                inputs=ask.inputs,
                dimensions=ask.dimensions,
                deadline=duration_to_proto(ask.deadline),
            ),
            timeout=_patience(ask.deadline),
        )
        return Embeddings(
            vectors=[vector.float32 for vector in response.vectors],
            tokens=from_proto_tokens(response.usage),
            cost=NanoUsd(response.cost.nano_usd),
        )

    async def list_models(self) -> Sequence[Model]:
        """Models of the caller's tenant."""
        response = await self._stub.ListModels(pb.ListModelsRequest())
        return [
            Model(model.name, proto_to_timestamp(model.created_at), TASKS.get(model.task)) for model in response.models
        ]


class GrpcAnswer:
    """`Answer` over a server stream. gRPC reads ahead no further than its flow-control window."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    async def next_step(self) -> Step | None:
        """Read one message."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            step = message.WhichOneof("event")
            if step == "chunk":
                return Payloads(list(message.chunk.payloads))
            if step == "done":
                return from_proto_done(message.done)
            if step == "begun":
                return from_proto_begun(message.begun)
        return None

    def cancel(self) -> None:
        """Cancel the call, and with it the work upstream."""
        self._call.cancel()


def from_proto_begun(begun: pb.Begun) -> Begun:
    """Read the beginning of an answer."""
    sources = [
        Source(source.number, source.file_id, source.filename, source.page, source.text, source.score)
        for source in begun.sources
    ]
    return Begun(sources, begun.soft_limit_passed)


def from_proto_done(done: pb.Done) -> Finished:
    """Read the end of an answer."""
    return Finished(
        tokens=from_proto_tokens(done.usage),
        cost=NanoUsd(done.cost.nano_usd),
        failure=from_proto_failure(done.failure) if done.HasField("failure") else None,
        usage_document=done.usage_payload,
    )


def from_proto_failure(failure: pb.Failure) -> ArgosyError:
    """Read why an answer broke off."""
    return RemoteError(KINDS.get(failure.reason, Kind.UPSTREAM), failure.reason, failure.message)


def _patience(deadline: timedelta) -> float:
    return (deadline + GRACE).total_seconds()
