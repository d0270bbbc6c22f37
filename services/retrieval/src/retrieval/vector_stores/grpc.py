"""Methods of RetrievalService about vector stores and attachments. The tenant is the caller's."""

from datetime import timedelta

from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.tenancy import Principal
from values.attribute_protos import proto_to_attributes
from values.roles import current_member

from retrieval.files.page import page_size
from retrieval.quotas.model import NO_QUOTAS, Quotas
from retrieval.vector_stores.create import check_changes, create_vector_store, space_of_new_store
from retrieval.vector_stores.model import EmbeddingModels, VectorStore
from retrieval.vector_stores.ports import VectorStores
from retrieval.vector_stores.protos import (
    attachment_to_proto,
    proto_to_changes,
    proto_to_given_attributes,
    proto_to_given_chunking,
    proto_to_state,
    vector_store_to_proto,
)


class VectorStoreMethods:
    def __init__(self, stores: VectorStores, models: EmbeddingModels, quotas: Quotas = NO_QUOTAS) -> None:
        self._quotas = quotas
        self._stores = stores
        self._models = models

    async def create(self, request: pb.CreateVectorStoreRequest) -> pb.CreateVectorStoreResponse:
        days = request.expires_after_days
        store = await create_vector_store(
            _principal(),
            request.name,
            list(request.file_ids),
            stores=self._stores,
            space=space_of_new_store(request.embedding_model, self._models),
            chunking=proto_to_given_chunking(request),
            metadata=dict(request.metadata),
            expires_after=timedelta(days=days) if days else None,
            quota=self._quotas.of(_principal().plan),
        )
        return pb.CreateVectorStoreResponse(vector_store=self._to_proto(store))

    async def list(self, request: pb.ListVectorStoresRequest) -> pb.ListVectorStoresResponse:
        page = await self._stores.list(
            _principal().tenant_id, limit=page_size(request.limit, default=20, maximum=100), after=request.after
        )
        stores = [self._to_proto(store) for store in page.items]
        return pb.ListVectorStoresResponse(vector_stores=stores, has_more=page.has_more)

    async def get(self, request: pb.GetVectorStoreRequest) -> pb.GetVectorStoreResponse:
        store = await self._stores.get(_principal().tenant_id, request.vector_store_id)
        return pb.GetVectorStoreResponse(vector_store=self._to_proto(store))

    async def update(self, request: pb.UpdateVectorStoreRequest) -> pb.UpdateVectorStoreResponse:
        changes = check_changes(proto_to_changes(request))
        store = await self._stores.update(_principal().tenant_id, request.vector_store_id, changes)
        return pb.UpdateVectorStoreResponse(vector_store=self._to_proto(store))

    async def delete(self, request: pb.DeleteVectorStoreRequest) -> pb.DeleteVectorStoreResponse:
        await self._stores.delete(_principal().tenant_id, request.vector_store_id)
        return pb.DeleteVectorStoreResponse()

    async def attach(self, request: pb.AttachFileRequest) -> pb.AttachFileResponse:
        attachment = await self._stores.attach(
            _principal(),
            request.vector_store_id,
            request.file_id,
            attributes=proto_to_given_attributes(request),
            chunking=proto_to_given_chunking(request),
        )
        return pb.AttachFileResponse(attachment=attachment_to_proto(attachment))

    async def get_attachment(self, request: pb.GetAttachmentRequest) -> pb.GetAttachmentResponse:
        attachment = await self._stores.attachment(_principal().tenant_id, request.vector_store_id, request.file_id)
        return pb.GetAttachmentResponse(attachment=attachment_to_proto(attachment))

    async def list_attachments(self, request: pb.ListAttachmentsRequest) -> pb.ListAttachmentsResponse:
        page = await self._stores.attachments(
            _principal().tenant_id,
            request.vector_store_id,
            limit=page_size(request.limit, default=20, maximum=100),
            after=request.after,
            state=proto_to_state(request.state),
        )
        attachments = [attachment_to_proto(attachment) for attachment in page.items]
        return pb.ListAttachmentsResponse(attachments=attachments, has_more=page.has_more)

    async def update_attachment(self, request: pb.UpdateAttachmentRequest) -> pb.UpdateAttachmentResponse:
        attachment = await self._stores.update_attachment(
            _principal().tenant_id, request.vector_store_id, request.file_id, proto_to_attributes(request.attributes)
        )
        return pb.UpdateAttachmentResponse(attachment=attachment_to_proto(attachment))

    async def detach(self, request: pb.DetachFileRequest) -> pb.DetachFileResponse:
        await self._stores.detach(_principal().tenant_id, request.vector_store_id, request.file_id)
        return pb.DetachFileResponse()

    def _to_proto(self, store: VectorStore) -> pb.VectorStore:
        return vector_store_to_proto(store, store.embedding_model or self._models.own)


def _principal() -> Principal:
    return current_member()
