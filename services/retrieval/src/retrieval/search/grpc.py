"""The method of RetrievalService that searches. The tenant is the caller's."""

from typing import Any

from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import InvalidRequest
from values.attribute_protos import attributes_to_proto, proto_to_filter
from values.limits import MAX_PASSAGES
from values.roles import current_member

from retrieval import metrics
from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Embedder
from retrieval.files.page import page_size
from retrieval.search.model import Passage, Ranker, SearchQuery
from retrieval.search.rerank import Reranking, RerankPolicy, search_and_rerank
from retrieval.search.search import DEFAULT_PASSAGES, SearchIndex, search

_PROTO_TO_RANKER = {
    pb.RANKER_UNSPECIFIED: Ranker.AUTO,
    pb.RANKER_FUSION: Ranker.FUSION,
    pb.RANKER_RERANK: Ranker.RERANK,
}
_RERANKING_TO_PROTO = {
    Reranking.DONE: pb.RERANKING_DONE,
    Reranking.SKIPPED: pb.RERANKING_SKIPPED,
    Reranking.NO_BUDGET: pb.RERANKING_NO_BUDGET,
}


class SearchMethods:
    def __init__(
        self, index: SearchIndex, embedder: Embedder, counter: TokenCounter, policy: RerankPolicy | None = None
    ) -> None:
        """Without a policy there is no reranker."""
        self._policy = policy
        self._index = index
        self._counter = counter
        self._embedder = embedder

    async def search(self, request: pb.SearchRequest) -> pb.SearchResponse:
        tenant_id = current_member().tenant_id
        query = SearchQuery(
            vector_store_ids=tuple(dict.fromkeys(request.vector_store_ids)),
            query=request.query,
            limit=page_size(request.limit, default=DEFAULT_PASSAGES, maximum=MAX_PASSAGES),
            filters=proto_to_filter(request.filter) if request.HasField("filter") else None,
            ranker=_PROTO_TO_RANKER.get(request.ranker, Ranker.AUTO),
            min_score=request.min_score,
        )
        with metrics.SEARCH_SECONDS.time():
            passages, reranking = await self._search(tenant_id, query)
        response = pb.SearchResponse(passages=map(passage_to_proto, passages), conditions_applied=True)
        if reranking is not None:
            metrics.RERANKED_SEARCHES.labels(reranking).inc()
            response.reranking = _RERANKING_TO_PROTO[reranking]
        return response

    async def _search(self, tenant_id: str, query: SearchQuery) -> tuple[list[Passage], Reranking | None]:
        ports: dict[str, Any] = {"index": self._index, "embedder": self._embedder, "counter": self._counter}
        policy = self._policy
        if query.ranker is Ranker.RERANK and policy is None:
            raise InvalidRequest(
                "this installation has no reranker: its operator names one in RETRIEVAL_RERANK__MODEL",
                param="ranking_options.ranker",
            )
        if policy is not None and (
            query.ranker is Ranker.RERANK or (query.ranker is Ranker.AUTO and policy.by_default)
        ):
            return await search_and_rerank(tenant_id, query, policy, **ports)
        return await search(tenant_id, query, **ports), None


def passage_to_proto(passage: Passage) -> pb.Passage:
    return pb.Passage(
        file_id=passage.source.file_id,
        filename=passage.source.filename,
        page=passage.source.page,
        text=passage.source.text,
        score=passage.score,
        vector_store_id=passage.vector_store_id,
        attributes=attributes_to_proto(passage.source.attributes),
    )
