"""Embeddings from the orchestrator: priced, reserved and settled like all inference."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Self

from argosy.orchestration.v1.orchestration_pb2 import EmbedRequest
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from chassis.grpc import Channel
from chassis.ids import new_id
from values.protos import duration_to_proto

from retrieval.embeddings.model import DIMENSIONS, IncompatibleEmbedding, Vector


class OrchestratorEmbedder:
    """Implements Embedder with `OrchestrationService.Embed`."""

    def __init__(
        self, channel: Channel, model: str, deadline: timedelta, models: Mapping[str, int] | None = None
    ) -> None:
        """`models` are further ones, with the dimensions of their vectors."""
        self._channel = channel
        self._orchestration = OrchestrationServiceStub(channel)
        self._deadline = deadline
        self._models = {**(models or {}), model: (models or {}).get(model, DIMENSIONS)}
        self.model = model

    def of(self, model: str) -> Self:
        if model not in self._models:
            message = f"RETRIEVAL_EMBEDDING__MODELS does not name {model!r}, the embedding model of this vector store"
            raise IncompatibleEmbedding(message)
        return type(self)(self._channel, model, self._deadline, self._models)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        # Each call has a request id of its own: a call that is repeated is paid for again.
        response = await self._orchestration.Embed(
            EmbedRequest(
                request_id=new_id("req_"), model=self.model, inputs=texts, deadline=duration_to_proto(self._deadline)
            ),
            timeout=self._deadline.total_seconds(),
        )
        vectors = [Vector(vector.float32) for vector in response.vectors]
        dimensions = self._models[self.model]
        if len(vectors) != len(texts) or any(len(vector) != dimensions * 4 for vector in vectors):
            # Not transient: each retry would be paid for.
            raise IncompatibleEmbedding(f"{self.model} did not return one vector of {dimensions} dimensions per text")
        return vectors
