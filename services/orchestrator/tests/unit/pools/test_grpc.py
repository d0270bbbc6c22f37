"""The gRPC service of pools."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from argosy.orchestration.v1 import pools_pb2 as pb
from argosy.orchestration.v1.pools_pb2_grpc import PoolServiceStub
from chassis.errors import ArgosyError, Kind
from chassis.tenancy import as_caller
from chassis.testing import FakeClock, a_caller, a_principal
from chassis.testing.grpc import serving
from orchestrator.pools.grpc import PoolServicer, registration
from orchestrator.pools.manage import ManagePools
from orchestrator.pools.model import PoolQuota

from services.orchestrator.tests.pool_fakes import FakePoolCluster, FakePoolStore, FakePoolTopics

ADMIN = a_caller(a_principal("ten_platform", roles=("platform_admin",)))
PUT = pb.PutPoolRequest(name="gold", tenant_ids=["ten_2", "ten_1"], min_replicas=1, max_replicas=4)


@asynccontextmanager
async def serve(pools: ManagePools | None) -> AsyncIterator[Any]:
    async with serving(registration(PoolServicer(pools))) as channel:
        yield PoolServiceStub(channel)


@pytest.fixture
async def stub() -> AsyncIterator[Any]:
    pools = ManagePools(
        store=FakePoolStore(FakeClock()),
        cluster=FakePoolCluster(),
        topics=FakePoolTopics(),
        quota=PoolQuota(max_pools=1, max_replicas=10),
    )
    async with serve(pools) as stub:
        yield stub


async def test_a_pool_is_put_read_listed_and_drained(stub: Any) -> None:
    with as_caller(ADMIN):
        made = (await stub.PutPool(PUT)).pool
        read = (await stub.GetPool(pb.GetPoolRequest(name="gold"))).pool
        listed = (await stub.ListPools(pb.ListPoolsRequest())).pools
        draining = (await stub.DeletePool(pb.DeletePoolRequest(name="gold"))).pool

    assert (list(made.tenant_ids), made.min_replicas, made.max_replicas) == (["ten_1", "ten_2"], 1, 4)
    assert made.state == pb.POOL_STATE_ACTIVE
    assert not made.HasField("replicas")
    assert (read.replicas, read.ready_replicas) == (1, 1)
    assert list(listed) == [made]
    assert (draining.state, list(draining.tenant_ids)) == (pb.POOL_STATE_DRAINING, [])


async def test_a_second_pool_is_beyond_the_quota(stub: Any) -> None:
    with as_caller(ADMIN):
        await stub.PutPool(PUT)
        with pytest.raises(ArgosyError) as refused:
            await stub.PutPool(pb.PutPoolRequest(name="silver", tenant_ids=["ten_3"], max_replicas=1))

    assert (refused.value.kind, refused.value.reason) == (Kind.EXHAUSTED, "POOL_QUOTA_EXCEEDED")


async def calls(stub: Any) -> list[ArgosyError]:
    errors = []
    for call in (
        stub.PutPool(PUT),
        stub.GetPool(pb.GetPoolRequest(name="gold")),
        stub.ListPools(pb.ListPoolsRequest()),
        stub.DeletePool(pb.DeletePoolRequest(name="gold")),
    ):
        with pytest.raises(ArgosyError) as refused:
            await call
        errors.append(refused.value)
    return errors


async def test_without_a_cluster_every_call_says_so() -> None:
    async with serve(None) as stub:
        with as_caller(ADMIN):
            assert {error.reason for error in await calls(stub)} == {"POOLS_NOT_SUPPORTED"}


async def test_only_an_admin_may_call(stub: Any) -> None:
    with as_caller(a_caller(a_principal("ten_1", roles=("member",)))):
        assert {error.kind for error in await calls(stub)} == {Kind.DENIED}
