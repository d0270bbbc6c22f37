"""Scores from the orchestrator: priced, reserved and settled like all inference."""

from collections.abc import Sequence
from datetime import timedelta

from argosy.orchestration.v1.orchestration_pb2 import RerankRequest
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from chassis.errors import Unavailable
from chassis.grpc import Channel
from chassis.ids import new_id
from values.protos import duration_to_proto


class OrchestratorReranker:
    """Implements Reranker with `OrchestrationService.Rerank`, for the caller's tenant."""

    def __init__(self, channel: Channel, model: str) -> None:
        self._orchestration = OrchestrationServiceStub(channel)
        self._model = model

    async def rerank(self, query: str, texts: Sequence[str], timeout: timedelta) -> Sequence[float]:
        # A request id of its own: it is billed beside the query's embedding.
        request = RerankRequest(
            request_id=new_id("req_"),
            model=self._model,
            query=query,
            documents=texts,
            deadline=duration_to_proto(timeout),
        )
        response = await self._orchestration.Rerank(request, timeout=timeout.total_seconds())
        if len(response.scores) != len(texts):
            raise Unavailable(f"{self._model} did not return one score per text")
        return list(response.scores)
