"""Vector stores in retrieval, over gRPC. Another tenant's vector store is not found."""

import asyncio
from collections.abc import Iterable, Sequence

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.errors import Unavailable
from chassis.grpc import Channel
from values.attribute_protos import attributes_to_proto, filter_to_proto, proto_to_attributes
from values.attributes import Attributes, Filter
from values.protos import proto_to_timestamp

from gateway.vector_stores.schemas import (
    AttachmentCreate,
    AttachmentRead,
    AttachmentStatus,
    ChunkingStrategy,
    ChunkSizes,
    ExpiresAfter,
    FileCounts,
    FileWarning,
    LastError,
    OtherChunkingRead,
    PassageRead,
    RankingOptions,
    SearchNotes,
    StaticChunkingRead,
    TextContent,
    VectorStoreCreate,
    VectorStoreInfo,
    VectorStoreRead,
    VectorStoreUpdate,
)
from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse, unix_seconds

PAGE_ATTRIBUTE = "page"
NOT_RERANKED = (
    "The reranker failed, or did not answer in time for every query: these results are in the order of the search."
)
NO_BUDGET = "The budget is exhausted, so the reranker was not called: these results are in the order of the search."
SECONDS_PER_DAY = 24 * 3_600

_STATUS_TO_PROTO: dict[AttachmentStatus, pb.AttachmentState.ValueType] = {
    "in_progress": pb.ATTACHMENT_STATE_IN_PROGRESS,
    "completed": pb.ATTACHMENT_STATE_COMPLETED,
    "failed": pb.ATTACHMENT_STATE_FAILED,
}
_PROTO_TO_STATUS = {state: status for status, state in _STATUS_TO_PROTO.items()}


class VectorStoresClient:
    """Acts on behalf of the current caller. All calls raise retrieval's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RetrievalServiceStub(channel)

    async def create(self, body: VectorStoreCreate) -> VectorStoreRead:
        """Raises FILE_NOT_FOUND, INVALID_REQUEST."""
        request = pb.CreateVectorStoreRequest(
            name=body.name or "",
            file_ids=body.file_ids,
            chunking=chunking_to_proto(body.chunking_strategy),
            metadata=body.metadata,
            expires_after_days=body.expires_after.days if body.expires_after else 0,
            embedding_model=(body.argosy and body.argosy.embedding_model) or "",
        )
        response = await self._stub.CreateVectorStore(request)
        return proto_to_vector_store(response.vector_store)

    async def list(self, page: PageRequest) -> ListResponse[VectorStoreRead]:
        """List vector stores, newest first."""
        response = await self._stub.ListVectorStores(pb.ListVectorStoresRequest(limit=page.limit, after=page.after))
        return ListResponse.of(map(proto_to_vector_store, response.vector_stores), has_more=response.has_more)

    async def get(self, vector_store_id: str) -> VectorStoreRead:
        """Raises VECTOR_STORE_NOT_FOUND."""
        response = await self._stub.GetVectorStore(pb.GetVectorStoreRequest(vector_store_id=vector_store_id))
        return proto_to_vector_store(response.vector_store)

    async def update(self, vector_store_id: str, body: VectorStoreUpdate) -> VectorStoreRead:
        """Raises VECTOR_STORE_NOT_FOUND, VECTOR_STORE_EXPIRED."""
        request = pb.UpdateVectorStoreRequest(vector_store_id=vector_store_id)
        named = body.model_fields_set
        if "name" in named:
            request.name = body.name or ""
        if "metadata" in named:
            request.metadata.CopyFrom(pb.Metadata(values=body.metadata))
        if "expires_after" in named:
            request.expires_after_days = body.expires_after.days if body.expires_after else 0
        response = await self._stub.UpdateVectorStore(request)
        return proto_to_vector_store(response.vector_store)

    async def delete(self, vector_store_id: str) -> None:
        """Raises VECTOR_STORE_NOT_FOUND."""
        await self._stub.DeleteVectorStore(pb.DeleteVectorStoreRequest(vector_store_id=vector_store_id))

    async def attach(self, vector_store_id: str, file: AttachmentCreate) -> AttachmentRead:
        """Put a file into a store; idempotent. Raises VECTOR_STORE_NOT_FOUND, FILE_NOT_FOUND."""
        request = pb.AttachFileRequest(
            vector_store_id=vector_store_id,
            file_id=file.file_id,
            attributes=given_attributes(file.attributes),
            chunking=chunking_to_proto(file.chunking_strategy),
        )
        response = await self._stub.AttachFile(request)
        return proto_to_attachment(response.attachment)

    async def get_attachment(self, vector_store_id: str, file_id: str) -> AttachmentRead:
        """Raises VECTOR_STORE_NOT_FOUND, FILE_NOT_FOUND."""
        response = await self._stub.GetAttachment(
            pb.GetAttachmentRequest(vector_store_id=vector_store_id, file_id=file_id)
        )
        return proto_to_attachment(response.attachment)

    async def list_attachments(
        self, vector_store_id: str, page: PageRequest, status: AttachmentStatus | None
    ) -> ListResponse[AttachmentRead]:
        """Raises VECTOR_STORE_NOT_FOUND."""
        request = pb.ListAttachmentsRequest(
            vector_store_id=vector_store_id, limit=page.limit, after=page.after, state=status_to_proto(status)
        )
        response = await self._stub.ListAttachments(request)
        return ListResponse.of(map(proto_to_attachment, response.attachments), has_more=response.has_more)

    async def update_attachment(self, vector_store_id: str, file_id: str, attributes: Attributes) -> AttachmentRead:
        """Raises VECTOR_STORE_NOT_FOUND, FILE_NOT_FOUND."""
        request = pb.UpdateAttachmentRequest(
            vector_store_id=vector_store_id, file_id=file_id, attributes=attributes_to_proto(attributes)
        )
        response = await self._stub.UpdateAttachment(request)
        return proto_to_attachment(response.attachment)

    async def detach(self, vector_store_id: str, file_id: str) -> None:
        """Raises VECTOR_STORE_NOT_FOUND, FILE_NOT_FOUND."""
        await self._stub.DetachFile(pb.DetachFileRequest(vector_store_id=vector_store_id, file_id=file_id))

    async def search(
        self, vector_store_id: str, queries: Sequence[str], options: pb.SearchRequest
    ) -> tuple[Sequence[PassageRead], SearchNotes]:
        """The best passages of all queries, which run at once. The first error cancels the other queries."""
        try:
            async with asyncio.TaskGroup() as group:
                searches = [group.create_task(self._search(vector_store_id, query, options)) for query in queries]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        found = [search.result() for search in searches]
        best = merge_passages(passage for response in found for passage in response.passages)
        passages = [proto_to_passage(passage) for passage in best[: options.limit]]
        return passages, to_notes([response.reranking for response in found], options)

    async def _search(self, vector_store_id: str, query: str, options: pb.SearchRequest) -> pb.SearchResponse:
        request = pb.SearchRequest(vector_store_ids=[vector_store_id], query=query)
        request.MergeFrom(options)
        response: pb.SearchResponse = await self._stub.Search(request)
        if (options.HasField("filter") or options.min_score) and not response.conditions_applied:
            raise Unavailable("retrieval is being updated, and does not filter yet")
        return response


_RANKERS: dict[str | None, pb.Ranker.ValueType] = {"none": pb.RANKER_FUSION, "rerank": pb.RANKER_RERANK}


def to_notes(reranking: Sequence[pb.Reranking.ValueType], options: pb.SearchRequest) -> SearchNotes:
    """What became of the queries. A service of the version before ignores a ranker that it does not know."""
    if all(one == pb.RERANKING_DONE for one in reranking):
        return SearchNotes(reranked=True)
    if any(one == pb.RERANKING_NO_BUDGET for one in reranking):
        return SearchNotes(warnings=[NO_BUDGET])
    asked = options.ranker == pb.RANKER_RERANK or any(one == pb.RERANKING_SKIPPED for one in reranking)
    return SearchNotes(warnings=[NOT_RERANKED] if asked else [])


def search_options(filters: Filter | None, ranking: RankingOptions | None, limit: int) -> pb.SearchRequest:
    """A request without its stores and its query."""
    ranker = None if ranking is None else ranking.ranker
    return pb.SearchRequest(
        limit=limit,
        filter=None if filters is None else filter_to_proto(filters),
        ranker=_RANKERS.get(ranker, pb.RANKER_UNSPECIFIED),
        min_score=(ranking.score_threshold or 0.0) if ranking is not None else 0.0,
    )


def given_attributes(attributes: Attributes | None) -> pb.Attributes | None:
    """Absent when none are given, which is not the same as none at all."""
    return None if attributes is None else attributes_to_proto(attributes)


def merge_passages(passages: Iterable[pb.Passage]) -> Sequence[pb.Passage]:
    """Each passage once, with its best score; best first."""
    best: dict[tuple[str, int, str], pb.Passage] = {}
    for passage in passages:
        identity = (passage.file_id, passage.page, passage.text)
        if identity not in best or best[identity].score < passage.score:
            best[identity] = passage
    return sorted(best.values(), key=lambda passage: -passage.score)


def proto_to_vector_store(message: pb.VectorStore) -> VectorStoreRead:
    active_at = unix_seconds(proto_to_timestamp(message.last_active_at))
    counts, days = proto_to_file_counts(message.file_counts), message.expires_after_days
    return VectorStoreRead(
        id=message.vector_store_id,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        name=message.name,
        usage_bytes=message.usage_bytes,
        file_counts=counts,
        status="expired" if message.expired else "in_progress" if counts.in_progress else "completed",
        expires_after=ExpiresAfter(anchor="last_active_at", days=days) if days else None,
        expires_at=active_at + days * SECONDS_PER_DAY if days else None,
        last_active_at=active_at,
        metadata=dict(message.metadata),
        argosy=VectorStoreInfo(embedding_model=message.embedding_model),
    )


def proto_to_file_counts(message: pb.FileCounts) -> FileCounts:
    return FileCounts(
        in_progress=message.in_progress,
        completed=message.completed,
        failed=message.failed,
        cancelled=message.cancelled,
        total=message.in_progress + message.completed + message.failed + message.cancelled,
    )


def status_to_proto(status: AttachmentStatus | None) -> pb.AttachmentState.ValueType:
    """The state to list; None for any."""
    return pb.ATTACHMENT_STATE_UNSPECIFIED if status is None else _STATUS_TO_PROTO[status]


def proto_to_attachment(message: pb.Attachment) -> AttachmentRead:
    """Read a file in a vector store. A state of a newer version is shown as in progress."""
    status = _PROTO_TO_STATUS.get(message.state, "in_progress")
    error = LastError(code=message.failure_reason.lower(), message=message.failure_message)
    return AttachmentRead(
        id=message.file_id,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        vector_store_id=message.vector_store_id,
        status=status,
        last_error=error if status == "failed" else None,
        warnings=[FileWarning(code=item.code, message=item.message) for item in message.warnings],
        usage_bytes=message.usage_bytes,
        attributes=proto_to_attributes(message.attributes),
        chunking_strategy=proto_to_chunking(message.chunking) if message.HasField("chunking") else OtherChunkingRead(),
    )


def chunking_to_proto(strategy: ChunkingStrategy | None) -> pb.Chunking | None:
    """Absent for the installation's own."""
    if strategy is None or strategy.static is None:
        return None
    static = strategy.static
    return pb.Chunking(max_tokens=static.max_chunk_size_tokens, overlap_tokens=static.chunk_overlap_tokens)


def proto_to_chunking(message: pb.Chunking) -> StaticChunkingRead:
    sizes = ChunkSizes(max_chunk_size_tokens=message.max_tokens, chunk_overlap_tokens=message.overlap_tokens)
    return StaticChunkingRead(static=sizes)


def proto_to_passage(message: pb.Passage) -> PassageRead:
    return PassageRead(
        file_id=message.file_id,
        filename=message.filename,
        score=message.score,
        attributes=({PAGE_ATTRIBUTE: message.page} if message.page else {}) | proto_to_attributes(message.attributes),
        content=[TextContent(text=message.text)],
    )
