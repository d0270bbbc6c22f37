"""Retrieval over gRPC."""

from collections.abc import Sequence
from datetime import timedelta

from argosy.retrieval.v1.retrieval_pb2 import SearchRequest
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.grpc import Channel
from chassis.telemetry import span

from orchestrator.adapters.mapping import from_proto_passage
from orchestrator.domain.ports import Passage
from orchestrator.metrics import SEARCH_SECONDS


class GrpcRetrieval:
    """The caller's knowledge, at the retrieval service; who calls is in the context."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RetrievalServiceStub(channel)

    async def search(
        self, vector_store_ids: Sequence[str], query: str, limit: int, time: timedelta
    ) -> Sequence[Passage]:
        """As `Retrieval.search`."""
        request = SearchRequest(vector_store_ids=vector_store_ids, query=query, limit=limit)
        with span("retrieval.search", kind="client", limit=limit), SEARCH_SECONDS.time():
            found = await self._stub.Search(request, timeout=time.total_seconds())
        return [from_proto_passage(passage) for passage in found.passages]
