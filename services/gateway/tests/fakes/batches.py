"""The orchestrator's BatchService in memory."""

from typing import Any

from argosy.orchestration.v1 import batches_pb2 as pb
from argosy.orchestration.v1.batches_pb2_grpc import BatchServiceServicer
from chassis.errors import Kind, RemoteError
from chassis.tenancy import current_caller


class FakeBatches(BatchServiceServicer):
    """A batch stays as it was made, until a test changes it."""

    def __init__(self) -> None:
        self.batches: dict[tuple[str, str], pb.Batch] = {}
        self.idempotency_keys: list[str] = []

    async def CreateBatch(self, request: pb.CreateBatchRequest, context: Any) -> pb.CreateBatchResponse:
        self.idempotency_keys.append(request.idempotency_key)
        if request.input_file_id == "file-none":
            raise RemoteError(Kind.NOT_FOUND, "FILE_NOT_FOUND", "There is no such file.", param="input_file_id")
        batch = pb.Batch(
            id=request.batch_id,
            endpoint=request.endpoint,
            input_file_id=request.input_file_id,
            completion_window=request.completion_window,
            metadata=request.metadata,
            state=pb.BATCH_STATE_VALIDATING,
        )
        batch.created_at.FromSeconds(1_767_312_000)
        batch.expires_at.FromSeconds(1_767_398_400)
        self.batches[self._tenant, batch.id] = batch
        return pb.CreateBatchResponse(batch=batch)

    async def GetBatch(self, request: pb.GetBatchRequest, context: Any) -> pb.GetBatchResponse:
        return pb.GetBatchResponse(batch=self._find(request.batch_id))

    async def ListBatches(self, request: pb.ListBatchesRequest, context: Any) -> pb.ListBatchesResponse:
        mine = sorted((batch for (tenant, _), batch in self.batches.items() if tenant == self._tenant), key=_id)[::-1]
        found = [batch for batch in mine if not request.after or batch.id < request.after]
        return pb.ListBatchesResponse(batches=found[: request.limit], has_more=len(found) > request.limit)

    async def CancelBatch(self, request: pb.CancelBatchRequest, context: Any) -> pb.CancelBatchResponse:
        batch = self._find(request.batch_id)
        if batch.HasField("finished_at"):
            raise RemoteError(Kind.CONFLICT, "BATCH_FINISHED", "The batch is completed already.")
        batch.state = pb.BATCH_STATE_CANCELLING
        batch.cancelling_at.FromSeconds(1_767_312_060)
        return pb.CancelBatchResponse(batch=batch)

    @property
    def _tenant(self) -> str:
        return current_caller().principal.tenant_id

    def _find(self, batch_id: str) -> pb.Batch:
        try:
            return self.batches[self._tenant, batch_id]
        except KeyError:
            raise RemoteError(Kind.NOT_FOUND, "BATCH_NOT_FOUND", "There is no such batch.") from None


def _id(batch: pb.Batch) -> str:
    return batch.id
