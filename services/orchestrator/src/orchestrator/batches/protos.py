"""Batches as messages."""

from argosy.orchestration.v1 import batches_pb2 as pb
from argosy.orchestration.v1 import events_pb2
from values.protos import error_to_proto

from orchestrator.batches.model import Batch, BatchState, LineError, NewBatch

_STATES = {
    BatchState.VALIDATING: pb.BATCH_STATE_VALIDATING,
    BatchState.FAILED: pb.BATCH_STATE_FAILED,
    BatchState.IN_PROGRESS: pb.BATCH_STATE_IN_PROGRESS,
    BatchState.FINALIZING: pb.BATCH_STATE_FINALIZING,
    BatchState.COMPLETED: pb.BATCH_STATE_COMPLETED,
    BatchState.EXPIRED: pb.BATCH_STATE_EXPIRED,
    BatchState.CANCELLING: pb.BATCH_STATE_CANCELLING,
    BatchState.CANCELLED: pb.BATCH_STATE_CANCELLED,
}


def proto_to_new_batch(request: pb.CreateBatchRequest) -> NewBatch:
    return NewBatch(
        request.batch_id,
        request.endpoint,
        request.input_file_id,
        request.completion_window,
        dict(request.metadata),
    )


def batch_to_proto(batch: Batch) -> pb.Batch:
    message = pb.Batch(
        id=batch.batch_id,
        tenant_id=batch.tenant_id,
        endpoint=batch.endpoint,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        state=_STATES[batch.state],
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        errors=[_line_error_to_proto(error) for error in batch.errors],
        total=batch.total,
        completed=batch.completed,
        failed=batch.failed,
        metadata=batch.metadata,
    )
    message.created_at.FromDatetime(batch.created_at)
    message.expires_at.FromDatetime(batch.expires_at)
    for name in ("in_progress_at", "finalizing_at", "finished_at", "cancelling_at"):
        instant, field = getattr(batch, name), getattr(message, name)
        if instant is not None:
            field.FromDatetime(instant)
    return message


def batch_to_finished_event(batch: Batch, event_id: str) -> events_pb2.BatchFinished:
    event = events_pb2.BatchFinished(
        batch_id=batch.batch_id,
        project_id=batch.principal.project_id,
        endpoint=batch.endpoint,
        status=batch.state.value,
        total=batch.total,
        completed=batch.completed,
        failed=batch.failed,
        input_file_id=batch.input_file_id,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        metadata=batch.metadata,
    )
    event.meta.event_id = event_id
    event.meta.tenant_id = batch.tenant_id
    event.created_at.FromDatetime(batch.created_at)
    if batch.finished_at is not None:
        event.meta.occurred_at.FromDatetime(batch.finished_at)
    return event


def _line_error_to_proto(error: LineError) -> pb.BatchLineError:
    message = pb.BatchLineError(line=error.line)
    error_to_proto(error.error, message.error)
    return message
