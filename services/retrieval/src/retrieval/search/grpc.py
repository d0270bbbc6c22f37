"""The method of RetrievalService that searches. The tenant is the caller's."""

from argosy.retrieval.v1 import retrieval_pb2 as pb
from values.attribute_protos import attributes_to_proto, proto_to_filter
from values.limits import MAX_PASSAGES
from values.roles import current_member

from retrieval import metrics
from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Embedder
from retrieval.files.page import page_size
from retrieval.search.model import Passage, Ranker, SearchQuery
from retrieval.search.search import DEFAULT_PASSAGES, SearchIndex, search

_PROTO_TO_RANKER = {pb.RANKER_UNSPECIFIED: Ranker.AUTO, pb.RANKER_FUSION: Ranker.FUSION}


class SearchMethods:
    def __init__(self, index: SearchIndex, embedder: Embedder, counter: TokenCounter) -> None:
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
            passages = await search(tenant_id, query, index=self._index, embedder=self._embedder, counter=self._counter)
        return pb.SearchResponse(passages=map(passage_to_proto, passages), conditions_applied=True)


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
