"""Vector stores and attachments as messages."""

from datetime import datetime, timedelta

from argosy.common.v1.common_pb2 import EventMeta
from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.events_pb2 import FileAttached
from chassis.errors import InvalidRequest
from chassis.ids import new_id
from chassis.tenancy import Principal
from values.attribute_protos import attributes_to_proto, proto_to_attributes
from values.attributes import Attributes
from values.protos import timestamp_to_proto

from retrieval.chunking.splitter import Chunking
from retrieval.vector_stores.model import Attachment, AttachmentState, StoreChanges, VectorStore

_STATE_TO_PROTO = {
    AttachmentState.IN_PROGRESS: pb.ATTACHMENT_STATE_IN_PROGRESS,
    AttachmentState.COMPLETED: pb.ATTACHMENT_STATE_COMPLETED,
    AttachmentState.FAILED: pb.ATTACHMENT_STATE_FAILED,
}
_PROTO_TO_STATE = {pb.ATTACHMENT_STATE_UNSPECIFIED: None, **{proto: state for state, proto in _STATE_TO_PROTO.items()}}


def vector_store_to_proto(store: VectorStore, embedding_model: str) -> pb.VectorStore:
    counts = store.file_counts
    return pb.VectorStore(
        vector_store_id=store.vector_store_id,
        name=store.name,
        created_at=timestamp_to_proto(store.created_at),
        file_counts=pb.FileCounts(in_progress=counts.in_progress, completed=counts.completed, failed=counts.failed),
        usage_bytes=store.usage_bytes,
        metadata=store.metadata,
        expires_after_days=store.expires_after.days if store.expires_after else 0,
        last_active_at=timestamp_to_proto(store.last_active_at),
        expired=store.expired,
        embedding_model=embedding_model,
    )


def proto_to_changes(request: pb.UpdateVectorStoreRequest) -> StoreChanges:
    days = request.expires_after_days if request.HasField("expires_after_days") else None
    return StoreChanges(
        request.name if request.HasField("name") else None,
        dict(request.metadata.values) if request.HasField("metadata") else None,
        None if days is None else timedelta(days=days),
    )


def attachment_to_proto(attachment: Attachment) -> pb.Attachment:
    return pb.Attachment(
        vector_store_id=attachment.vector_store_id,
        file_id=attachment.file_id,
        state=_STATE_TO_PROTO[attachment.state],
        failure_reason=attachment.failure_reason,
        failure_message=attachment.failure_message,
        chunks=attachment.chunks,
        created_at=timestamp_to_proto(attachment.created_at),
        usage_bytes=attachment.usage_bytes,
        warnings=[pb.FileWarning(code=item.code, message=item.message) for item in attachment.warnings],
        attributes=attributes_to_proto(attachment.attributes),
        chunking=chunking_to_proto(attachment.chunking),
    )


def chunking_to_proto(chunking: Chunking | None) -> pb.Chunking | None:
    if chunking is None:
        return None
    return pb.Chunking(max_tokens=chunking.max_tokens, overlap_tokens=chunking.overlap_tokens)


def proto_to_given_chunking(
    request: pb.AttachFileRequest | pb.FileToAttach | pb.CreateVectorStoreRequest,
) -> Chunking | None:
    """None when none is given. Raises InvalidRequest."""
    if not request.HasField("chunking"):
        return None
    return Chunking(request.chunking.max_tokens, request.chunking.overlap_tokens)


def proto_to_given_attributes(
    request: pb.AttachFileRequest | pb.FileToAttach,
) -> Attributes | None:
    """None when none are given, which is not the same as none at all. Raises InvalidRequest."""
    return proto_to_attributes(request.attributes) if request.HasField("attributes") else None


def proto_to_state(state: pb.AttachmentState.ValueType) -> AttachmentState | None:
    """The state to filter by; None for any. Raises InvalidRequest for one that does not exist."""
    if state not in _PROTO_TO_STATE:
        raise InvalidRequest(f"there is no state {state}", param="state")
    return _PROTO_TO_STATE[state]


def file_attached_to_proto(
    principal: Principal, vector_store_id: str, file_id: str, attached_at: datetime
) -> FileAttached:
    return FileAttached(
        meta=EventMeta(
            event_id=new_id("evt_"), tenant_id=principal.tenant_id, occurred_at=timestamp_to_proto(attached_at)
        ),
        vector_store_id=vector_store_id,
        file_id=file_id,
        project_id=principal.project_id,
        key_id=principal.key_id,
    )
