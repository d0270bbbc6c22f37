"""The orchestrator's gRPC service, answering by the fake's script: what the adapter is tested against."""
# ruff: noqa: N802 - the names are the protos'

from collections.abc import AsyncIterator
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceServicer
from chassis.grpc import proto_to_duration, timestamp_to_proto
from gateway.domain.inference import Begun, ChatAsk, EmbedAsk, Payloads, Step, Task

from services.gateway.tests.fakes.inference import FakeInference
from services.gateway.tests.fakes.metering import to_proto_money, to_proto_usage

TASKS = {Task.CHAT: "MODEL_TASK_CHAT", Task.EMBEDDING: "MODEL_TASK_EMBEDDING", None: "MODEL_TASK_UNSPECIFIED"}


def to_proto_step(step: Step) -> orchestration_pb2.GenerateResponse:
    if isinstance(step, Payloads):
        return orchestration_pb2.GenerateResponse(chunk=orchestration_pb2.Chunk(payloads=step.documents))
    if isinstance(step, Begun):
        sources = [
            orchestration_pb2.Source(
                number=source.number,
                file_id=source.file_id,
                filename=source.filename,
                page=source.page,
                text=source.text,
                score=source.score,
            )
            for source in step.sources
        ]
        begun = orchestration_pb2.Begun(sources=sources, soft_limit_passed=step.soft_limit_passed)
        return orchestration_pb2.GenerateResponse(begun=begun)
    done = orchestration_pb2.Done(
        usage=to_proto_usage(step.tokens), cost=to_proto_money(step.cost), usage_payload=step.usage_document
    )
    if step.failure is not None:
        done.failure.reason, done.failure.message = step.failure.reason, step.failure.message
    return orchestration_pb2.GenerateResponse(done=done)


class Orchestrator(OrchestrationServiceServicer):
    """Answers by the script of a fake."""

    def __init__(self, inference: FakeInference) -> None:
        self._inference = inference
        self.deadlines: list[float] = []

    async def Generate(
        self, request: orchestration_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[orchestration_pb2.GenerateResponse]:
        self.deadlines.append(context.time_remaining())
        ask = ChatAsk(
            request.request_id, request.model, request.body, request.stream, proto_to_duration(request.deadline)
        )
        answer = self._inference.generate(ask)
        try:
            while (step := await answer.next_step()) is not None:
                yield to_proto_step(step)
        finally:
            answer.cancel()

    async def Embed(self, request: orchestration_pb2.EmbedRequest, context: Any) -> orchestration_pb2.EmbedResponse:
        ask = EmbedAsk(
            request.request_id,
            request.model,
            list(request.inputs),
            request.dimensions,
            proto_to_duration(request.deadline),
        )
        embedded = await self._inference.embed(ask)
        return orchestration_pb2.EmbedResponse(
            vectors=[orchestration_pb2.Vector(float32=vector) for vector in embedded.vectors],
            usage=to_proto_usage(embedded.tokens),
            cost=to_proto_money(embedded.cost),
        )

    async def ListModels(
        self, request: orchestration_pb2.ListModelsRequest, context: Any
    ) -> orchestration_pb2.ListModelsResponse:
        models = [
            orchestration_pb2.Model(
                name=model.name,
                created_at=timestamp_to_proto(model.created_at),
                task=orchestration_pb2.ModelTask.Value(TASKS[model.task]),
            )
            for model in await self._inference.list_models()
        ]
        return orchestration_pb2.ListModelsResponse(models=models)
