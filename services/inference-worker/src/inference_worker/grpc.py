"""The gRPC service: each RPC is a method of its feature."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any

from argosy.inference.v1 import inference_pb2
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server
from chassis.grpc import Registration

from inference_worker.embeddings.grpc import EmbeddingMethods
from inference_worker.plans.grpc import PlanMethods


class InferenceServicer(InferenceServiceServicer):
    def __init__(self, plans: PlanMethods, embeddings: EmbeddingMethods) -> None:
        self._plans = plans
        self._embeddings = embeddings

    # Neither is `async`, which would add a coroutine to every call. `Infer` writes its responses instead of yielding.
    def Infer(  # type: ignore[override]
        self, request_iterator: AsyncIterator[inference_pb2.InferRequest], context: Any
    ) -> Awaitable[None]:
        return self._plans.infer(request_iterator, context)

    def Embed(self, request: inference_pb2.EmbedRequest, context: Any) -> Awaitable[inference_pb2.EmbedResponse]:
        return self._embeddings.embed(request)


def registration(servicer: InferenceServicer) -> Registration:
    """Return what a `GrpcServer` needs to serve it."""
    return add_InferenceServiceServicer_to_server, servicer, "argosy.inference.v1.InferenceService"
