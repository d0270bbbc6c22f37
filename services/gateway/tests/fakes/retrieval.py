"""Retrieval's gRPC service in memory."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceServicer
from chassis.errors import InvalidRequest, Kind, RemoteError
from chassis.ids import new_id
from chassis.tenancy import current_caller
from gateway.web.pagination import PageRequest
from values.protos import timestamp_to_proto

from services.gateway.tests.fakes.identity_store import to_page

T = TypeVar("T")

OWN_MODEL = "minilm"
CREATED = timestamp_to_proto(datetime(2026, 1, 2, tzinfo=UTC))


def file_not_found() -> RemoteError:
    return RemoteError(Kind.NOT_FOUND, "FILE_NOT_FOUND", "There is no such file.")


def vector_store_not_found() -> RemoteError:
    return RemoteError(Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND", "There is no such vector store.")


def passage(file_id: str, filename: str, page: int, text: str, score: float) -> pb.Passage:
    return pb.Passage(file_id=file_id, filename=filename, page=page, text=text, score=score)


@dataclass
class TenantData:
    """What one tenant has."""

    files: dict[str, pb.File] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    stores: dict[str, pb.VectorStore] = field(default_factory=dict)
    attachments: dict[tuple[str, str], pb.Attachment] = field(default_factory=dict)
    batches: dict[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    cancelled_batches: set[str] = field(default_factory=set)
    migrations: dict[tuple[str, str], pb.StoreMigration] = field(default_factory=dict)
    left_of_deleted: dict[str, int] = field(default_factory=dict)


class FakeRetrieval(RetrievalServiceServicer):
    """A file is indexed once it was read in its store; one named bad.* fails."""

    def __init__(self) -> None:
        self.tenants: dict[str, TenantData] = {}
        self.piece_sizes: list[int] = []
        self.interrupt_downloads = False
        self.searches: list[pb.SearchRequest] = []
        self.passages: dict[str, Sequence[pb.Passage]] = {}
        self.applies_conditions = True
        self.reranking: list[pb.Reranking.ValueType] = []
        """Of the next searches."""
        self.download_content: Callable[[], AsyncIterator[bytes]] | None = None
        self.before_search: Callable[[str], Awaitable[None]] | None = None

    @property
    def data(self) -> TenantData:
        """Of the caller's tenant."""
        return self.tenants.setdefault(current_caller().principal.tenant_id, TenantData())

    async def UploadFile(self, request_iterator: Any, context: Any) -> pb.UploadFileResponse:
        data, content = self.data, bytearray()
        first = await anext(request_iterator)
        assert first.WhichOneof("part") == "metadata"
        async for request in request_iterator:
            if request.HasField("end"):
                assert request.end.bytes == len(content)
                break
            assert request.WhichOneof("part") == "data"
            self.piece_sizes.append(len(request.data))
            content += request.data
        else:
            raise InvalidRequest("the upload is incomplete")
        metadata = first.metadata
        file = pb.File(
            file_id=new_id("file-"),
            filename=metadata.filename,
            purpose=metadata.purpose,
            bytes=len(content),
            created_at=CREATED,
        )
        data.files[file.file_id], data.contents[file.file_id] = file, bytes(content)
        return pb.UploadFileResponse(file=file)

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        files = [file for file in self.data.files.values() if request.purpose in ("", file.purpose)]
        page, has_more = paged(request, files, lambda file: file.file_id)
        return pb.ListFilesResponse(files=page, has_more=has_more)

    async def GetFile(self, request: pb.GetFileRequest, context: Any) -> pb.GetFileResponse:
        return pb.GetFileResponse(file=self._file(request.file_id))

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        self._file(request.file_id)
        if self.download_content is not None:
            async for data in self.download_content():
                yield pb.DownloadFileResponse(data=data)
            return
        content = self.data.contents[request.file_id]
        yield pb.DownloadFileResponse(data=content[:2])
        if self.interrupt_downloads:
            raise RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "The object store does not answer.")
        yield pb.DownloadFileResponse(data=content[2:])

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Any) -> pb.DeleteFileResponse:
        self._file(request.file_id)
        del self.data.files[request.file_id]
        self.data.left_of_deleted[request.file_id] = 1
        return pb.DeleteFileResponse()

    async def CreateVectorStore(
        self, request: pb.CreateVectorStoreRequest, context: Any
    ) -> pb.CreateVectorStoreResponse:
        for file_id in request.file_ids:
            self._file(file_id)
        store = pb.VectorStore(
            vector_store_id=new_id("vs_"),
            name=request.name,
            created_at=CREATED,
            last_active_at=CREATED,
            metadata=request.metadata,
            expires_after_days=request.expires_after_days,
            embedding_model=request.embedding_model or OWN_MODEL,
        )
        self.data.stores[store.vector_store_id] = store
        for file_id in request.file_ids:
            attachment = self._attach(store.vector_store_id, file_id)
            if request.HasField("chunking"):
                attachment.chunking.CopyFrom(request.chunking)
        return pb.CreateVectorStoreResponse(vector_store=self._store(store.vector_store_id))

    async def ListVectorStores(self, request: pb.ListVectorStoresRequest, context: Any) -> pb.ListVectorStoresResponse:
        stores = [self._store(store_id) for store_id in self.data.stores]
        page, has_more = paged(request, stores, lambda store: store.vector_store_id)
        return pb.ListVectorStoresResponse(vector_stores=page, has_more=has_more)

    async def GetVectorStore(self, request: pb.GetVectorStoreRequest, context: Any) -> pb.GetVectorStoreResponse:
        return pb.GetVectorStoreResponse(vector_store=self._store(request.vector_store_id))

    async def UpdateVectorStore(
        self, request: pb.UpdateVectorStoreRequest, context: Any
    ) -> pb.UpdateVectorStoreResponse:
        store = self._store(request.vector_store_id)
        if request.HasField("name"):
            store.name = request.name
        if request.HasField("expires_after_days"):
            store.expires_after_days = request.expires_after_days
        if request.HasField("metadata"):
            store.metadata.clear()
            store.metadata.update(request.metadata.values)
        return pb.UpdateVectorStoreResponse(vector_store=store)

    async def DeleteVectorStore(
        self, request: pb.DeleteVectorStoreRequest, context: Any
    ) -> pb.DeleteVectorStoreResponse:
        self._store(request.vector_store_id)
        del self.data.stores[request.vector_store_id]
        return pb.DeleteVectorStoreResponse()

    async def AttachFile(self, request: pb.AttachFileRequest, context: Any) -> pb.AttachFileResponse:
        self._store(request.vector_store_id)
        self._file(request.file_id)
        attachment = self._attach(request.vector_store_id, request.file_id)
        set_options(attachment, request)
        return pb.AttachFileResponse(attachment=attachment)

    async def UpdateAttachment(self, request: pb.UpdateAttachmentRequest, context: Any) -> pb.UpdateAttachmentResponse:
        self._store(request.vector_store_id)
        attachment = self.data.attachments.get((request.vector_store_id, request.file_id))
        if attachment is None:
            raise file_not_found()
        attachment.attributes.CopyFrom(request.attributes)
        return pb.UpdateAttachmentResponse(attachment=attachment)

    async def GetAttachment(self, request: pb.GetAttachmentRequest, context: Any) -> pb.GetAttachmentResponse:
        self._store(request.vector_store_id)
        attachment = self.data.attachments.get((request.vector_store_id, request.file_id))
        if attachment is None:
            raise file_not_found()
        before = pb.GetAttachmentResponse(attachment=attachment)
        if self.data.files[request.file_id].filename.startswith("bad."):
            attachment.state = pb.ATTACHMENT_STATE_FAILED
            attachment.failure_reason = "UNREADABLE_FILE"
            attachment.failure_message = "The file cannot be read."
        else:
            attachment.state = pb.ATTACHMENT_STATE_COMPLETED
            attachment.chunks, attachment.usage_bytes = 3, 90
        return before

    async def ListAttachments(self, request: pb.ListAttachmentsRequest, context: Any) -> pb.ListAttachmentsResponse:
        self._store(request.vector_store_id)
        attachments = [
            attachment
            for (store_id, _), attachment in self.data.attachments.items()
            if store_id == request.vector_store_id and request.state in (0, attachment.state)
        ]
        page, has_more = paged(request, attachments, lambda attachment: attachment.file_id)
        return pb.ListAttachmentsResponse(attachments=page, has_more=has_more)

    async def DetachFile(self, request: pb.DetachFileRequest, context: Any) -> pb.DetachFileResponse:
        self._store(request.vector_store_id)
        if self.data.attachments.pop((request.vector_store_id, request.file_id), None) is None:
            raise file_not_found()
        return pb.DetachFileResponse()

    async def CreateFileBatch(self, request: pb.CreateFileBatchRequest, context: Any) -> pb.CreateFileBatchResponse:
        self._store(request.vector_store_id)
        for file in request.files:
            self._file(file.file_id)
        for file in request.files:
            attachment = self._attach(request.vector_store_id, file.file_id)
            set_options(attachment, file)
        batch_id = new_id("vsfb_")
        ids = [file.file_id for file in request.files]
        self.data.batches[request.vector_store_id, batch_id] = list(dict.fromkeys(ids))
        return pb.CreateFileBatchResponse(file_batch=self._batch(request.vector_store_id, batch_id))

    async def GetFileBatch(self, request: pb.GetFileBatchRequest, context: Any) -> pb.GetFileBatchResponse:
        """The batch; its files are indexed once it was read."""
        before = self._batch(request.vector_store_id, request.batch_id)
        for file_id in self.data.batches[request.vector_store_id, request.batch_id]:
            if (request.vector_store_id, file_id) in self.data.attachments:
                key = pb.GetAttachmentRequest(vector_store_id=request.vector_store_id, file_id=file_id)
                await self.GetAttachment(key, context)
        return pb.GetFileBatchResponse(file_batch=before)

    async def CancelFileBatch(self, request: pb.CancelFileBatchRequest, context: Any) -> pb.CancelFileBatchResponse:
        self._batch(request.vector_store_id, request.batch_id)
        for file_id in self.data.batches[request.vector_store_id, request.batch_id]:
            attachment = self.data.attachments.get((request.vector_store_id, file_id))
            if attachment is not None and attachment.state == pb.ATTACHMENT_STATE_IN_PROGRESS:
                del self.data.attachments[request.vector_store_id, file_id]
                self.data.cancelled_batches.add(request.batch_id)
        return pb.CancelFileBatchResponse(file_batch=self._batch(request.vector_store_id, request.batch_id))

    async def ListFileBatchFiles(
        self, request: pb.ListFileBatchFilesRequest, context: Any
    ) -> pb.ListFileBatchFilesResponse:
        self._batch(request.vector_store_id, request.batch_id)
        ids = self.data.batches[request.vector_store_id, request.batch_id]
        attachments = [
            attachment
            for (store_id, file_id), attachment in self.data.attachments.items()
            if store_id == request.vector_store_id and file_id in ids and request.state in (0, attachment.state)
        ]
        page, has_more = paged(request, attachments, lambda attachment: attachment.file_id)
        return pb.ListFileBatchFilesResponse(attachments=page, has_more=has_more)

    async def StartStoreMigration(
        self, request: pb.StartStoreMigrationRequest, context: Any
    ) -> pb.StartStoreMigrationResponse:
        """Start a migration of 8 chunks; 2 of them are done, and all once it was read."""
        if self._store(request.vector_store_id).embedding_model == request.embedding_model:
            raise InvalidRequest("the vector store has this embedding model", param="embedding_model")
        migration = pb.StoreMigration(
            migration_id=new_id("vsm_"),
            vector_store_id=request.vector_store_id,
            embedding_model=request.embedding_model,
            state=pb.STORE_MIGRATION_STATE_IN_PROGRESS,
            chunks=8,
            migrated_chunks=2,
            embedded_chunks=1,
            reused_chunks=1,
            created_at=CREATED,
        )
        self.data.migrations[request.vector_store_id, migration.migration_id] = migration
        return pb.StartStoreMigrationResponse(migration=migration)

    async def GetStoreMigration(
        self, request: pb.GetStoreMigrationRequest, context: Any
    ) -> pb.GetStoreMigrationResponse:
        migration = self._migration(request.vector_store_id, request.migration_id)
        before = pb.GetStoreMigrationResponse(migration=migration)
        if migration.state == pb.STORE_MIGRATION_STATE_IN_PROGRESS:
            migration.state, migration.migrated_chunks = pb.STORE_MIGRATION_STATE_COMPLETED, 8
            migration.finished_at.CopyFrom(CREATED)
        return before

    async def ListStoreMigrations(
        self, request: pb.ListStoreMigrationsRequest, context: Any
    ) -> pb.ListStoreMigrationsResponse:
        self._store(request.vector_store_id)
        of_store = [one for (store, _), one in self.data.migrations.items() if store == request.vector_store_id]
        page, has_more = paged(request, of_store, lambda migration: migration.migration_id)
        return pb.ListStoreMigrationsResponse(migrations=page, has_more=has_more)

    async def CancelStoreMigration(
        self, request: pb.CancelStoreMigrationRequest, context: Any
    ) -> pb.CancelStoreMigrationResponse:
        migration = self._migration(request.vector_store_id, request.migration_id)
        if migration.state != pb.STORE_MIGRATION_STATE_COMPLETED:
            migration.state, migration.unused_vectors_deleted = pb.STORE_MIGRATION_STATE_CANCELLED, True
            migration.finished_at.CopyFrom(CREATED)
        return pb.CancelStoreMigrationResponse(migration=migration)

    async def GetDeletionReport(
        self, request: pb.GetDeletionReportRequest, context: Any
    ) -> pb.GetDeletionReportResponse:
        """What was deleted is gone once its report was read."""
        left = self.data.left_of_deleted.get(request.resource_id)
        if left is None:
            raise RemoteError(Kind.NOT_FOUND, "DELETION_NOT_FOUND", "There was no such deletion.")
        self.data.left_of_deleted[request.resource_id] = 0
        report = pb.DeletionReport(
            resource_id=request.resource_id, deleted_at=CREATED, checked_at=CREATED, complete=not left, objects=left
        )
        return pb.GetDeletionReportResponse(report=report)

    def _migration(self, store_id: str, migration_id: str) -> pb.StoreMigration:
        self._store(store_id)
        if (store_id, migration_id) not in self.data.migrations:
            raise RemoteError(Kind.NOT_FOUND, "STORE_MIGRATION_NOT_FOUND", "There is no such migration.")
        return self.data.migrations[store_id, migration_id]

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        if self.before_search is not None:
            await self.before_search(request.query)
        self.searches.append(request)
        (store_id,) = request.vector_store_ids
        self._store(store_id)
        found = self.passages.get(request.query, ())[: request.limit]
        reranking = self.reranking.pop(0) if self.reranking else pb.RERANKING_UNSPECIFIED
        return pb.SearchResponse(passages=found, conditions_applied=self.applies_conditions, reranking=reranking)

    def _file(self, file_id: str) -> pb.File:
        if file_id not in self.data.files:
            raise file_not_found()
        return self.data.files[file_id]

    def _store(self, store_id: str) -> pb.VectorStore:
        if store_id not in self.data.stores:
            raise vector_store_not_found()
        store = self.data.stores[store_id]
        states = [attachment.state for (found, _), attachment in self.data.attachments.items() if found == store_id]
        store.file_counts.in_progress = states.count(pb.ATTACHMENT_STATE_IN_PROGRESS)
        store.file_counts.completed = states.count(pb.ATTACHMENT_STATE_COMPLETED)
        store.file_counts.failed = states.count(pb.ATTACHMENT_STATE_FAILED)
        return store

    def _batch(self, store_id: str, batch_id: str) -> pb.FileBatch:
        self._store(store_id)
        if (store_id, batch_id) not in self.data.batches:
            raise RemoteError(Kind.NOT_FOUND, "FILE_BATCH_NOT_FOUND", "There is no such file batch.")
        ids = self.data.batches[store_id, batch_id]
        found = [self.data.attachments[store_id, file] for file in ids if (store_id, file) in self.data.attachments]
        states = [attachment.state for attachment in found]
        counts = pb.FileCounts(
            in_progress=states.count(pb.ATTACHMENT_STATE_IN_PROGRESS),
            completed=states.count(pb.ATTACHMENT_STATE_COMPLETED),
            failed=states.count(pb.ATTACHMENT_STATE_FAILED),
            cancelled=len(ids) - len(found),
        )
        return pb.FileBatch(
            batch_id=batch_id,
            vector_store_id=store_id,
            created_at=CREATED,
            file_counts=counts,
            cancelled=batch_id in self.data.cancelled_batches,
        )

    def _attach(self, store_id: str, file_id: str) -> pb.Attachment:
        attachment = pb.Attachment(
            vector_store_id=store_id,
            file_id=file_id,
            state=pb.ATTACHMENT_STATE_IN_PROGRESS,
            created_at=CREATED,
            chunking=pb.Chunking(max_tokens=192, overlap_tokens=38),
        )
        return self.data.attachments.setdefault((store_id, file_id), attachment)


def set_options(attachment: pb.Attachment, file: pb.AttachFileRequest | pb.FileToAttach) -> None:
    """Take over what is said of a file."""
    if file.HasField("attributes"):
        attachment.attributes.CopyFrom(file.attributes)
    if file.HasField("chunking"):
        attachment.chunking.CopyFrom(file.chunking)


def paged(request: Any, items: Iterable[T], id_of: Callable[[T], str]) -> tuple[Sequence[T], bool]:
    """The page that a list request asks for, and whether there are more."""
    page = to_page(items, PageRequest(request.limit, request.after), id_of)
    return page.items, page.has_more
