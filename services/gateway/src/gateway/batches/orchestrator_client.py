"""Batches in the orchestrator, over gRPC. Another tenant's batch is not found."""

from argosy.orchestration.v1 import batches_pb2 as pb
from argosy.orchestration.v1.batches_pb2_grpc import BatchServiceStub
from chassis.grpc import Channel
from chassis.ids import new_id
from google.protobuf.timestamp_pb2 import Timestamp
from values.protos import proto_to_timestamp

from gateway.batches.schemas import BatchCreate, BatchError, BatchErrors, BatchRead, BatchStatus, RequestCounts
from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse, unix_seconds

_STATUSES: dict[int, BatchStatus] = {
    pb.BATCH_STATE_VALIDATING: "validating",
    pb.BATCH_STATE_FAILED: "failed",
    pb.BATCH_STATE_IN_PROGRESS: "in_progress",
    pb.BATCH_STATE_FINALIZING: "finalizing",
    pb.BATCH_STATE_COMPLETED: "completed",
    pb.BATCH_STATE_EXPIRED: "expired",
    pb.BATCH_STATE_CANCELLING: "cancelling",
    pb.BATCH_STATE_CANCELLED: "cancelled",
}


class BatchesClient:
    """Acts on behalf of the current caller. All calls raise the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = BatchServiceStub(channel)

    async def create(self, body: BatchCreate, idempotency_key: str = "") -> BatchRead:
        """Raises FILE_NOT_FOUND, BATCH_FILE_INVALID, BATCH_LIMIT_REACHED, IDEMPOTENCY_KEY_REUSED."""
        request = pb.CreateBatchRequest(
            batch_id=new_id("batch_"),
            input_file_id=body.input_file_id,
            endpoint=body.endpoint,
            completion_window=body.completion_window,
            metadata=body.metadata or {},
            idempotency_key=idempotency_key,
        )
        return proto_to_batch((await self._stub.CreateBatch(request)).batch)

    async def get(self, batch_id: str) -> BatchRead:
        """Raises BATCH_NOT_FOUND."""
        return proto_to_batch((await self._stub.GetBatch(pb.GetBatchRequest(batch_id=batch_id))).batch)

    async def list(self, page: PageRequest) -> ListResponse[BatchRead]:
        response = await self._stub.ListBatches(pb.ListBatchesRequest(limit=page.limit, after=page.after))
        return ListResponse.of(map(proto_to_batch, response.batches), has_more=response.has_more)

    async def cancel(self, batch_id: str) -> BatchRead:
        """Raises BATCH_NOT_FOUND, BATCH_FINISHED."""
        return proto_to_batch((await self._stub.CancelBatch(pb.CancelBatchRequest(batch_id=batch_id))).batch)


def proto_to_batch(message: pb.Batch) -> BatchRead:
    status = _STATUSES[message.state]
    finished_at = _seconds(message, "finished_at")
    errors = [
        BatchError(
            code=one.error.reason.lower(),
            message=one.error.message,
            param=one.error.param or None,
            line=one.line or None,
        )
        for one in message.errors
    ]
    return BatchRead(
        id=message.id,
        endpoint=message.endpoint,
        errors=BatchErrors(data=errors) if errors else None,
        input_file_id=message.input_file_id,
        completion_window=message.completion_window,
        status=status,
        output_file_id=message.output_file_id or None,
        error_file_id=message.error_file_id or None,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        in_progress_at=_seconds(message, "in_progress_at"),
        expires_at=unix_seconds(proto_to_timestamp(message.expires_at)),
        finalizing_at=_seconds(message, "finalizing_at"),
        completed_at=finished_at if status == "completed" else None,
        failed_at=finished_at if status == "failed" else None,
        expired_at=finished_at if status == "expired" else None,
        cancelling_at=_seconds(message, "cancelling_at"),
        cancelled_at=finished_at if status == "cancelled" else None,
        request_counts=RequestCounts(total=message.total, completed=message.completed, failed=message.failed),
        metadata=dict(message.metadata) or None,
    )


def _seconds(message: pb.Batch, field: str) -> int | None:
    """Return seconds since 1970; None for a time that has not come."""
    if not message.HasField(field):  # type: ignore[arg-type]  # the stubs list the names
        return None
    instant: Timestamp = getattr(message, field)
    return unix_seconds(proto_to_timestamp(instant))
