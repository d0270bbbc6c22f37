"""Batches as their tenants see them."""

from __future__ import annotations

from typing import Any

import pytest
from argosy.orchestration.v1 import batches_pb2 as pb
from argosy.orchestration.v1.batches_pb2_grpc import BatchServiceStub
from chassis.errors import Kind, RemoteError
from chassis.ids import new_id
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from orchestrator.batches.create import BatchLimits, CreateBatch
from orchestrator.batches.grpc import BatchServicer, registration
from orchestrator.batches.lines import FileLimits

from services.orchestrator.tests.fake_batches import FakeBatchStore, FakeFileStore
from services.orchestrator.tests.fake_idempotency import FakeIdempotencyKeys

LIMITS = BatchLimits(file=FileLimits(lines=10, line_bytes=1_000), file_bytes=1_000, unfinished_batches=10)


async def test_a_batch_repeated_under_its_key_is_the_same_batch() -> None:
    store, files = FakeBatchStore(), FakeFileStore()
    for file_id in ("file-1", "file-2"):
        files.put(file_id, b"{}")
    servicer = BatchServicer(CreateBatch(store, files, LIMITS), store, FakeIdempotencyKeys())

    async with serving(registration(servicer)) as channel:
        stub = BatchServiceStub(channel)

        async def create(file_id: str = "file-1", key: str = "abc", **fields: Any) -> str:
            request = pb.CreateBatchRequest(
                batch_id=new_id("batch_"),
                endpoint="/v1/chat/completions",
                input_file_id=file_id,
                completion_window="24h",
                idempotency_key=key,
                **fields,
            )
            return (await stub.CreateBatch(request)).batch.id  # type: ignore[no-any-return]

        with as_caller(a_caller(a_principal())):
            with pytest.raises(RemoteError):
                await create("file-none")
            first, again, other = await create(), await create(), await create(key="abd")
            without = {await create(key=""), await create(key="")}
            reasons = []
            for change in ({"file_id": "file-2"}, {"metadata": {"a": "b"}}, {"key": "a b"}):
                with pytest.raises(RemoteError) as refused:
                    await create(**change)
                reasons.append(refused.value.kind)

    assert (first == again, len({first, other, *without})) == (True, 4)
    assert reasons == [Kind.UNPROCESSABLE, Kind.UNPROCESSABLE, Kind.INVALID]
