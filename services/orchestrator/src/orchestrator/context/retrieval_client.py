"""Retrieval over gRPC."""

from collections.abc import Sequence
from datetime import timedelta

from argosy.retrieval.v1 import retrieval_pb2
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.errors import Unavailable
from chassis.grpc import Channel
from chassis.telemetry import span
from values.attribute_protos import filter_to_proto
from values.attributes import Filter

from orchestrator.context.model import Passage
from orchestrator.metrics import RETRIEVAL_SECONDS


class GrpcRetrievalClient:
    """Calls retrieval as the current caller."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RetrievalServiceStub(channel)

    async def search(
        self,
        vector_store_ids: Sequence[str],
        query: str,
        limit: int,
        timeout: timedelta,
        filters: Filter | None = None,
    ) -> Sequence[Passage]:
        request = retrieval_pb2.SearchRequest(
            vector_store_ids=vector_store_ids,
            query=query,
            limit=limit,
            filter=None if filters is None else filter_to_proto(filters),
        )
        with span("retrieval.search", kind="client", limit=limit), RETRIEVAL_SECONDS.time():
            found = await self._stub.Search(request, timeout=timeout.total_seconds())
        if filters is not None and not found.conditions_applied:
            # Passages that the filter excludes would reach the prompt.
            raise Unavailable("retrieval is being updated, and does not filter yet")
        return [_proto_to_passage(passage) for passage in found.passages]


def _proto_to_passage(passage: retrieval_pb2.Passage) -> Passage:
    return Passage(passage.file_id, passage.filename, passage.page, passage.text, passage.score)
