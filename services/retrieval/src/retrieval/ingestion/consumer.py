"""Kafka consumer of attached files."""

from argosy.retrieval.v1.events_pb2 import FileAttached
from chassis.kafka import Record, Undecodable
from google.protobuf.message import DecodeError

from retrieval import metrics
from retrieval.ingestion.fair_queue import FairQueue
from retrieval.vector_stores.model import AttachmentKey


class FileAttachedConsumer:
    """Queues the attachment and returns, because a run takes minutes and would delay the consumer's next poll.

    Nothing is lost by that: the attachment is in Postgres, and the reaper finds those that no process claimed.
    """

    def __init__(self, queue: FairQueue) -> None:
        self._queue = queue

    async def __call__(self, record: Record) -> None:
        """Handle one event. Raises Undecodable."""
        self._queue.put(proto_to_attachment_key(record.value))
        metrics.INGESTION_QUEUE_SIZE.set(len(self._queue))


def proto_to_attachment_key(value: bytes) -> AttachmentKey:
    """The key in a FileAttached event. Raises Undecodable when a part of it is missing."""
    try:
        event = FileAttached.FromString(value)
    except DecodeError as error:
        raise Undecodable(f"not a FileAttached: {error}") from error
    key = AttachmentKey(event.meta.tenant_id, event.vector_store_id, event.file_id)
    if not (key.tenant_id and key.vector_store_id and key.file_id):
        raise Undecodable("a FileAttached without tenant, vector store or file")
    return key
