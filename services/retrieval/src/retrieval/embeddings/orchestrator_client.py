"""Embeddings by way of the orchestrator: priced, reserved and settled as all inference."""

from collections.abc import Sequence
from datetime import timedelta

from argosy.orchestration.v1.orchestration_pb2 import EmbedRequest
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from chassis.grpc import Channel, duration_to_proto
from chassis.ids import new_id

from retrieval.domain.embedding import DIMENSIONS, Vector, VectorsUnfit


class OrchestratorEmbedder:
    """Calls `OrchestrationService.Embed` as the current caller."""

    def __init__(self, channel: Channel, model: str, deadline: timedelta) -> None:
        self._orchestration = OrchestrationServiceStub(channel)
        self._deadline = deadline
        self.model = model

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See Embedder. Each call is a request of its own: one that is made again is paid for again."""
        response = await self._orchestration.Embed(
            EmbedRequest(
                request_id=new_id("req_"), model=self.model, inputs=texts, deadline=duration_to_proto(self._deadline)
            ),
            timeout=self._deadline.total_seconds(),
        )
        vectors = [Vector(vector.float32) for vector in response.vectors]
        if len(vectors) != len(texts) or any(len(vector) != DIMENSIONS * 4 for vector in vectors):
            # Not a failure that passes: each try would be paid for.
            raise VectorsUnfit(f"{self.model} did not answer one vector of {DIMENSIONS} dimensions per text")
        return vectors
