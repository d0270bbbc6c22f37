"""The orchestrator's gRPC service over the scripted fake."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceServicer
from gateway.inference.model import ChatRequest, Chunk, EmbeddingsRequest, RerankRequest, Started, StreamEvent, Task
from values.protos import (
    error_to_proto,
    nano_usd_to_proto,
    proto_to_duration,
    proto_to_inputs,
    timestamp_to_proto,
    usage_to_proto,
)

from services.gateway.tests.fakes.inference import FakeInference

TASKS = {
    Task.CHAT: pb.MODEL_TASK_CHAT,
    Task.EMBEDDING: pb.MODEL_TASK_EMBEDDING,
    Task.RERANK: pb.MODEL_TASK_RERANK,
    None: pb.MODEL_TASK_UNSPECIFIED,
}


def event_to_proto(event: StreamEvent) -> pb.GenerateResponse:
    if isinstance(event, Chunk):
        return pb.GenerateResponse(chunk=pb.Chunk(payloads=event.payloads))
    if isinstance(event, Started):
        sources = [
            pb.Source(
                number=source.number,
                file_id=source.file_id,
                filename=source.filename,
                page=source.page,
                text=source.text,
                score=source.score,
            )
            for source in event.sources
        ]
        started = pb.Started(sources=sources, soft_limit_passed=event.soft_limit_passed, warnings=event.warnings)
        return pb.GenerateResponse(started=started)
    finished = pb.Finished(cost=nano_usd_to_proto(event.cost), usage_payload=event.usage_payload)
    usage_to_proto(event.usage, finished.usage)
    if event.error is not None:
        error_to_proto(event.error, finished.error)
    return pb.GenerateResponse(finished=finished)


class FakeOrchestrator(OrchestrationServiceServicer):
    """Responds by the script of a fake."""

    def __init__(self, inference: FakeInference) -> None:
        self._inference = inference
        self.embed_requests: list[pb.EmbedRequest] = []
        self.deadlines: list[float] = []

    async def GetRequestStates(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        self.deadlines.append(context.time_remaining())
        stream = self._inference.generate(
            ChatRequest(
                request.request_id, request.model, request.body, request.stream, proto_to_duration(request.deadline)
            )
        )
        try:
            while (event := await stream.read()) is not None:
                yield event_to_proto(event)
        finally:
            stream.cancel()

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        raise NotImplementedError

    async def EmbedInPieces(
        self, message: pb.EmbedInPiecesRequest, context: Any
    ) -> AsyncIterator[pb.EmbedInPiecesResponse]:
        request = message.request
        self.embed_requests.append(request)
        result = await self._inference.embed(
            EmbeddingsRequest(
                request.request_id,
                request.model,
                list(proto_to_inputs(request)),
                request.dimensions,
                proto_to_duration(request.deadline),
            )
        )
        first = pb.EmbedResponse(cost=nano_usd_to_proto(result.cost), vectors=_vectors(result.vectors))
        usage_to_proto(result.usage, first.usage)
        yield pb.EmbedInPiecesResponse(piece=first)
        if result.rest is not None:
            async for vectors in result.rest:
                yield pb.EmbedInPiecesResponse(piece=pb.EmbedResponse(vectors=_vectors(vectors)))

    async def Rerank(self, request: pb.RerankRequest, context: Any) -> pb.RerankResponse:
        deadline = proto_to_duration(request.deadline)
        result = await self._inference.rerank(
            RerankRequest(request.request_id, request.model, request.query, list(request.documents), deadline)
        )
        response = pb.RerankResponse(
            scores=result.scores,
            cost=nano_usd_to_proto(result.cost),
            search_units=result.search_units,
            warnings=result.warnings,
        )
        usage_to_proto(result.usage, response.usage)
        return response

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        models = [
            pb.Model(name=model.name, created_at=timestamp_to_proto(model.created_at), task=TASKS[model.task])
            for model in await self._inference.list_models()
        ]
        return pb.ListModelsResponse(models=models)


def _vectors(vectors: Iterable[bytes]) -> list[pb.Vector]:
    return [pb.Vector(float32=vector) for vector in vectors]
