"""What ingestion tells others, as messages."""

from datetime import datetime

from argosy.common.v1.common_pb2 import Error, EventMeta
from argosy.retrieval.v1.events_pb2 import FileIndexed
from chassis.errors import Kind
from chassis.ids import new_id
from values.protos import timestamp_to_proto

from retrieval.ingestion.model import Claim


def file_indexed_to_proto(claim: Claim, finished_at: datetime, reason: str, message: str) -> FileIndexed:
    """The indexing of a file is over; a reason says that it failed."""
    event = FileIndexed(
        meta=EventMeta(
            event_id=new_id("evt_"), tenant_id=claim.key.tenant_id, occurred_at=timestamp_to_proto(finished_at)
        ),
        vector_store_id=claim.key.vector_store_id,
        file_id=claim.key.file_id,
        filename=claim.filename,
        project_id=claim.principal.project_id,
    )
    if reason:
        event.error.CopyFrom(Error(kind=Kind.INVALID, reason=reason.upper(), message=message))
    return event
