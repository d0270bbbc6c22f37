"""Inference by the orchestrator, over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import grpc
from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from chassis.errors import DeadlineExceeded, RemoteError, Unavailable
from chassis.grpc import Channel
from values.protos import (
    duration_to_proto,
    inputs_to_proto,
    proto_to_cache_outcome,
    proto_to_error,
    proto_to_nano_usd,
    proto_to_timestamp,
    proto_to_usage,
)

from gateway.inference.model import (
    CacheControl,
    ChatRequest,
    Chunk,
    CompletionStream,
    EmbeddingsRequest,
    EmbeddingsResult,
    Finished,
    Model,
    RerankRequest,
    RerankResult,
    Source,
    Started,
    StreamEvent,
    Task,
)

# The orchestrator keeps the deadline and reports it; the RPC's own timeout, this much later, is for a peer that hangs.
GRACE = timedelta(seconds=5)

# Time for the vectors after the first, which are sent as fast as the client reads. They are settled by then.
DELIVERY = timedelta(minutes=10)

_PROTO_TO_TASK: dict[int, Task] = {
    pb.MODEL_TASK_CHAT: Task.CHAT,
    pb.MODEL_TASK_EMBEDDING: Task.EMBEDDING,
    pb.MODEL_TASK_RERANK: Task.RERANK,
}
_MODE_TO_PROTO = {
    "off": pb.CACHE_MODE_OFF,
    "read": pb.CACHE_MODE_READ,
    "write": pb.CACHE_MODE_WRITE,
    "on": pb.CACHE_MODE_ON,
}


class OrchestratorClient:
    """`InferenceClient` over gRPC."""

    def __init__(self, channel: Channel) -> None:
        self._stub = OrchestrationServiceStub(channel)

    def generate(self, request: ChatRequest) -> CompletionStream:
        message = pb.GenerateRequest(
            request_id=request.request_id,
            model=request.model,
            body=request.body,
            stream=request.stream,
            deadline=duration_to_proto(request.deadline),
        )
        if request.cache is not None:
            _cache_to_proto(request.cache, message.cache)
        return GrpcCompletionStream(self._stub.Generate(message, timeout=_rpc_timeout(request.deadline)))

    async def embed(self, request: EmbeddingsRequest) -> EmbeddingsResult:
        message = pb.EmbedRequest(
            request_id=request.request_id,
            model=request.model,
            dimensions=request.dimensions,
            deadline=duration_to_proto(request.deadline),
            refuse_truncation=True,
        )
        inputs_to_proto(request.inputs, message)
        timeout = _rpc_timeout(request.deadline)
        call = self._stub.EmbedInPieces(
            pb.EmbedInPiecesRequest(request=message), timeout=timeout + DELIVERY.total_seconds()
        )
        try:
            first = await _read_first(call, timeout)
        except RemoteError as error:
            if error.reason != "UNIMPLEMENTED":
                raise
            # An orchestrator of the version before.
            first = await self._stub.Embed(message, timeout=timeout)
        return EmbeddingsResult(
            vectors=_vectors(first),
            usage=proto_to_usage(first.usage),
            cost=proto_to_nano_usd(first.cost),
            rest=GrpcVectorPieces(call) if len(first.vectors) < len(request.inputs) else None,
        )

    async def rerank(self, request: RerankRequest) -> RerankResult:
        message = pb.RerankRequest(
            request_id=request.request_id,
            model=request.model,
            query=request.query,
            documents=request.documents,
            deadline=duration_to_proto(request.deadline),
        )
        response = await self._stub.Rerank(message, timeout=_rpc_timeout(request.deadline))
        return RerankResult(
            list(response.scores),
            proto_to_usage(response.usage),
            proto_to_nano_usd(response.cost),
            response.search_units,
            list(response.warnings),
        )

    async def list_models(self) -> Sequence[Model]:
        response = await self._stub.ListModels(pb.ListModelsRequest())
        return [
            Model(model.name, proto_to_timestamp(model.created_at), _PROTO_TO_TASK.get(model.task))
            for model in response.models
        ]


async def _read_first(call: Any, timeout: float) -> pb.EmbedResponse:
    try:
        async with asyncio.timeout(timeout):
            response = await call.read()
    except TimeoutError:
        call.cancel()
        raise DeadlineExceeded("the orchestrator did not answer in time") from None
    except asyncio.CancelledError:
        call.cancel()
        raise
    if response is grpc.aio.EOF:
        raise Unavailable("the orchestrator ended the call without an answer")
    piece: pb.EmbedResponse = response.piece
    return piece


class GrpcVectorPieces:
    """`VectorPieces` over a server stream. A generator alone would cancel nothing before its first step."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[Sequence[bytes]]:
        async for response in self._call:
            yield _vectors(response.piece)

    def cancel(self) -> None:
        self._call.cancel()


def _vectors(message: pb.EmbedResponse) -> list[bytes]:
    return [vector.float32 for vector in message.vectors]


class GrpcCompletionStream:
    """`CompletionStream` over a server stream. gRPC reads ahead no further than its flow-control window."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    async def read(self) -> StreamEvent | None:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            event = message.WhichOneof("event")
            if event == "chunk":
                return Chunk(list(message.chunk.payloads))
            if event == "finished":
                return proto_to_finished(message.finished)
            if event == "started":
                return proto_to_started(message.started)
        return None

    def cancel(self) -> None:
        self._call.cancel()


def proto_to_started(message: pb.Started) -> Started:
    sources = [
        Source(source.number, source.file_id, source.filename, source.page, source.text, source.score)
        for source in message.sources
    ]
    return Started(
        sources,
        message.soft_limit_passed,
        tuple(message.warnings),
        proto_to_cache_outcome(message.cache),
        message.cache_age_seconds,
    )


def _cache_to_proto(control: CacheControl, message: pb.CacheControl) -> None:
    message.SetInParent()
    if control.mode is not None:
        message.mode = _MODE_TO_PROTO[control.mode]
    if control.max_age is not None:
        message.max_age.FromTimedelta(control.max_age)


def proto_to_finished(message: pb.Finished) -> Finished:
    return Finished(
        usage=proto_to_usage(message.usage),
        cost=proto_to_nano_usd(message.cost),
        error=proto_to_error(message.error) if message.HasField("error") else None,
        usage_payload=message.usage_payload,
        warnings=tuple(message.warnings),
    )


def _rpc_timeout(deadline: timedelta) -> float:
    return (deadline + GRACE).total_seconds()
