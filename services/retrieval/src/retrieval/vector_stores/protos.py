"""Domain values to messages and back."""

from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import InvalidRequest
from chassis.grpc import timestamp_to_proto

from retrieval.domain.files import File
from retrieval.domain.searching import Passage
from retrieval.domain.vector_stores import Attachment, AttachmentState, VectorStore

_STATES = {
    AttachmentState.IN_PROGRESS: pb.ATTACHMENT_STATE_IN_PROGRESS,
    AttachmentState.COMPLETED: pb.ATTACHMENT_STATE_COMPLETED,
    AttachmentState.FAILED: pb.ATTACHMENT_STATE_FAILED,
}


def to_proto_file(file: File) -> pb.File:
    """A file's record."""
    return pb.File(
        file_id=file.file_id,
        filename=file.filename,
        purpose=file.purpose,
        bytes=file.size_bytes,
        created_at=timestamp_to_proto(file.created_at),
    )


def to_proto_vector_store(store: VectorStore) -> pb.VectorStore:
    """A vector store's record."""
    counts = store.file_counts
    return pb.VectorStore(
        vector_store_id=store.vector_store_id,
        name=store.name,
        created_at=timestamp_to_proto(store.created_at),
        file_counts=pb.FileCounts(in_progress=counts.in_progress, completed=counts.completed, failed=counts.failed),
        usage_bytes=store.usage_bytes,
    )


def to_proto_attachment(attachment: Attachment) -> pb.Attachment:
    """An attachment's record."""
    return pb.Attachment(
        vector_store_id=attachment.vector_store_id,
        file_id=attachment.file_id,
        state=_STATES[attachment.state],
        failure_reason=attachment.failure_reason,
        failure_message=attachment.failure_message,
        chunks=attachment.chunks,
        created_at=timestamp_to_proto(attachment.created_at),
        usage_bytes=attachment.usage_bytes,
    )


def to_proto_passage(passage: Passage) -> pb.Passage:
    """A passage that was found."""
    return pb.Passage(
        file_id=passage.source.file_id,
        filename=passage.source.filename,
        page=passage.source.page,
        text=passage.source.text,
        score=passage.score,
        vector_store_id=passage.vector_store_id,
    )


def from_proto_state(state: pb.AttachmentState.ValueType) -> AttachmentState | None:
    """The state to filter by; None for any. Raises InvalidRequest for one that does not exist."""
    if state == pb.ATTACHMENT_STATE_UNSPECIFIED:
        return None
    for known, value in _STATES.items():
        if value == state:
            return known
    raise InvalidRequest(f"there is no state {state}", param="state")
