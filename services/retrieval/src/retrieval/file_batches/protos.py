"""File batches as messages."""

from argosy.retrieval.v1 import retrieval_pb2 as pb
from values.protos import timestamp_to_proto

from retrieval.file_batches.model import FileBatch


def file_batch_to_proto(batch: FileBatch) -> pb.FileBatch:
    counts = batch.file_counts
    return pb.FileBatch(
        batch_id=batch.batch_id,
        vector_store_id=batch.vector_store_id,
        created_at=timestamp_to_proto(batch.created_at),
        cancelled=batch.cancelled,
        file_counts=pb.FileCounts(
            in_progress=counts.in_progress,
            completed=counts.completed,
            failed=counts.failed,
            cancelled=counts.cancelled,
        ),
    )
