"""Batches over gRPC. The tenant is always the caller's."""

from typing import Any

from argosy.orchestration.v1 import batches_pb2 as pb
from argosy.orchestration.v1.batches_pb2_grpc import BatchServiceServicer, add_BatchServiceServicer_to_server
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from values.roles import current_member

from orchestrator.batches.create import CreateBatch
from orchestrator.batches.ports import BatchStore
from orchestrator.batches.protos import batch_to_proto, proto_to_new_batch

DEFAULT_PAGE = 20
MAX_PAGE = 100


class BatchServicer(BatchServiceServicer):
    def __init__(self, create: CreateBatch, store: BatchStore) -> None:
        self._create = create
        self._store = store

    async def CreateBatch(self, request: pb.CreateBatchRequest, context: Any) -> pb.CreateBatchResponse:
        batch = await self._create(current_member(), proto_to_new_batch(request))
        return pb.CreateBatchResponse(batch=batch_to_proto(batch))

    async def GetBatch(self, request: pb.GetBatchRequest, context: Any) -> pb.GetBatchResponse:
        batch = await self._store.get(current_member().tenant_id, request.batch_id)
        return pb.GetBatchResponse(batch=batch_to_proto(batch))

    async def ListBatches(self, request: pb.ListBatchesRequest, context: Any) -> pb.ListBatchesResponse:
        limit = request.limit or DEFAULT_PAGE
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"limit must be between 1 and {MAX_PAGE}, not {limit}", param="limit")
        batches = await self._store.list_batches(current_member().tenant_id, limit=limit + 1, after=request.after)
        return pb.ListBatchesResponse(
            batches=[batch_to_proto(batch) for batch in batches[:limit]], has_more=len(batches) > limit
        )

    async def CancelBatch(self, request: pb.CancelBatchRequest, context: Any) -> pb.CancelBatchResponse:
        batch = await self._store.request_cancel(current_member().tenant_id, request.batch_id)
        return pb.CancelBatchResponse(batch=batch_to_proto(batch))


def registration(servicer: BatchServicer) -> Registration:
    return add_BatchServiceServicer_to_server, servicer, "argosy.orchestration.v1.BatchService"
