"""Batches over gRPC. The tenant is always the caller's."""

from dataclasses import replace
from typing import Any

from argosy.orchestration.v1 import batches_pb2 as pb
from argosy.orchestration.v1.batches_pb2_grpc import BatchServiceServicer, add_BatchServiceServicer_to_server
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from chassis.tenancy import Principal
from values.roles import current_member

from orchestrator.batches.create import CreateBatch
from orchestrator.batches.model import Batch, BatchIdReused, NewBatch
from orchestrator.batches.ports import BatchStore
from orchestrator.batches.protos import batch_to_proto, proto_to_new_batch
from orchestrator.idempotency.model import IdempotencyKey, IdempotencyKeyReused, Resource, checked_key
from orchestrator.idempotency.ports import IdempotencyKeys

DEFAULT_PAGE = 20
MAX_PAGE = 100


class BatchServicer(BatchServiceServicer):
    def __init__(self, create: CreateBatch, store: BatchStore, keys: IdempotencyKeys) -> None:
        self._create = create
        self._store = store
        self._keys = keys

    async def CreateBatch(self, request: pb.CreateBatchRequest, context: Any) -> pb.CreateBatchResponse:
        principal, new = current_member(), proto_to_new_batch(request)
        if request.idempotency_key:
            batch = await self._create_once(principal, new, checked_key(request.idempotency_key))
        else:
            batch = await self._create(principal, new)
        return pb.CreateBatchResponse(batch=batch_to_proto(batch))

    async def _create_once(self, principal: Principal, new: NewBatch, key: str) -> Batch:
        """Create under the id of the first request with this key: it is accepted once."""
        name = IdempotencyKey(principal.tenant_id, principal.key_id, Resource.BATCH, key)
        try:
            return await self._create(principal, replace(new, batch_id=await self._keys.resolve(name, new.batch_id)))
        except BatchIdReused:
            raise IdempotencyKeyReused(
                "the idempotency key was used for another request", param="idempotency-key"
            ) from None

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
