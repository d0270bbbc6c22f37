"""Attached files, heard of through Kafka."""

from argosy.retrieval.v1.events_pb2 import FileAttached
from chassis.kafka import Record, Undecodable
from google.protobuf.message import DecodeError

from retrieval import metrics
from retrieval.domain.backlog import Backlog
from retrieval.domain.ingestion import AttachmentKey

TOPIC = "argosy.retrieval.file-attached.v1"


class FileAttachedEvents:
    """Puts what was attached into the backlog and is done: a file takes minutes, a consumer's turn must not.

    Nothing is lost by that: the attachment itself is in Postgres, and what nobody claims is found there.
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog

    async def __call__(self, record: Record) -> None:
        """Take one event. Raises Undecodable."""
        self._backlog.offer(from_proto_file_attached(record.value))
        metrics.BACKLOG.set(len(self._backlog))


def from_proto_file_attached(value: bytes) -> AttachmentKey:
    """Which file was attached where. Raises Undecodable for anything but a complete event."""
    try:
        event = FileAttached.FromString(value)
    except DecodeError as error:
        raise Undecodable(f"not a FileAttached: {error}") from error
    key = AttachmentKey(event.meta.tenant_id, event.vector_store_id, event.file_id)
    if not (key.tenant_id and key.vector_store_id and key.file_id):
        raise Undecodable("a FileAttached without tenant, vector store or file")
    return key
