"""The service as `main` puts it together, asked over gRPC; Kafka is away, which only keeps it from settling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from argosy.common.v1 import common_pb2 as common
from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1 import metering_pb2_grpc as rpc
from chassis.clock import SystemClock
from chassis.errors import Kind, RemoteFailure
from chassis.grpc import Channel, GrpcServer
from chassis.ids import new_id
from chassis.settings import GrpcSection, PostgresSection, PrincipalSection
from chassis.telemetry import Telemetry
from chassis.tenancy import Caller, Principal, PrincipalSigner, acting
from chassis.testing import SECRET, a_principal, free_port
from metering.main import build
from metering.settings import EventsSection, Settings
from pydantic import SecretStr

CHAT = "local/smollm2-135m-instruct"


@asynccontextmanager
async def serving(section: PostgresSection) -> AsyncIterator[Any]:
    """Run the service and yield a stub to it."""
    settings = Settings(
        postgres=section,
        kafka=EventsSection(bootstrap=f"127.0.0.1:{free_port()}"),
        principal=PrincipalSection(secrets=(SecretStr(SECRET),)),
        grpc=GrpcSection(bind="127.0.0.1:0"),
    )
    async with build(settings, cast("Telemetry", None)) as components:
        for component in components:
            await component.start()
        door = components[-1]
        assert isinstance(door, GrpcServer)
        async with Channel(f"127.0.0.1:{door.port}", "metering") as channel:
            yield rpc.MeteringServiceStub(cast("Any", channel))
        for component in reversed(components):
            await component.stop()


@pytest.fixture
async def stub(section: PostgresSection) -> AsyncIterator[Any]:
    async with serving(section) as stub:
        yield stub


def calling(principal: Principal) -> Caller:
    """Act for somebody; the service has the machine's clock, so its callers have too."""
    return Caller(principal, PrincipalSigner(SECRET, "tests", SystemClock()).sign(principal), new_id("req_"))


def a_request(tokens: int, request_id: str = "req_1") -> pb.ReserveRequest:
    bound = pb.Bound(price_key=CHAT, input_tokens=tokens, output_tokens=tokens)
    return pb.ReserveRequest(request_id=request_id, bounds=[bound])


async def test_money_is_reserved_at_the_seeded_price_and_shown_to_its_tenant_alone(stub: Any) -> None:
    ours, theirs = calling(a_principal(new_id("ten_"))), calling(a_principal(new_id("ten_")))
    with acting(ours):
        reserved = await stub.Reserve(a_request(100))
        account = await stub.GetRequest(pb.GetRequestRequest(request_id="req_1"))
        budget = (await stub.GetBudget(pb.GetBudgetRequest())).budget

    assert reserved.held.nano_usd == account.reservation.held.nano_usd == budget.held.nano_usd == 100 * (50 + 200)
    assert budget.cap.nano_usd == 100 * 10**9
    with acting(theirs), pytest.raises(RemoteFailure) as refused:
        await stub.GetRequest(pb.GetRequestRequest(request_id="req_1"))
    assert (refused.value.kind, refused.value.reason) == (Kind.NOT_FOUND, "REQUEST_NOT_FOUND")


async def test_refusals_keep_their_reasons_on_the_wire(stub: Any) -> None:
    tenant = new_id("ten_")
    with acting(calling(a_principal(roles=["admin"]))):
        await stub.SetBudget(pb.SetBudgetRequest(tenant_id=tenant, cap=common.Money(nano_usd=1000)))
    unpriced = pb.ReserveRequest(request_id="req_2", bounds=[pb.Bound(price_key="local/none", input_tokens=1)])

    for request, kind, reason in (
        (a_request(100), Kind.EXHAUSTED, "INSUFFICIENT_QUOTA"),
        (unpriced, Kind.INVALID, "UNPRICED_MODEL"),
        (a_request(-1), Kind.INVALID, "INVALID_REQUEST"),
    ):
        with acting(calling(a_principal(tenant))), pytest.raises(RemoteFailure) as refused:
            await stub.Reserve(request)
        assert (refused.value.kind, refused.value.reason) == (kind, reason)


async def test_a_call_without_a_principal_or_with_a_forged_one_is_refused(stub: Any) -> None:
    principal = a_principal(roles=["admin"])
    forged = Caller(principal, PrincipalSigner("x" * 40, "tests", SystemClock()).sign(principal), "req_1")
    for caller in (Caller(principal, "", "req_1"), forged):
        with acting(caller), pytest.raises(RemoteFailure) as refused:
            await stub.GetBudget(pb.GetBudgetRequest())
        assert refused.value.reason == "PRINCIPAL_INVALID"


async def test_a_price_put_in_force_holds_for_the_next_reservation(stub: Any) -> None:
    key = f"local/{new_id('m')}"
    price = pb.Price(
        price_key=key, input_per_million=common.Money(nano_usd=7), output_per_million=common.Money(nano_usd=0)
    )
    with acting(calling(a_principal(roles=["admin"]))):
        made = (await stub.SetPrice(pb.SetPriceRequest(price=price))).price
    with acting(calling(a_principal(new_id("ten_")))):
        bounds = [pb.Bound(price_key=key, input_tokens=1_000_001)]
        reserved = await stub.Reserve(pb.ReserveRequest(request_id="req_1", bounds=bounds))
        listed = (await stub.ListPrices(pb.ListPricesRequest())).prices

    assert (reserved.held.nano_usd, list(reserved.prices)) == (8, [made])
    assert made in listed


async def test_a_hundred_callers_at_once_are_all_answered(stub: Any) -> None:
    with acting(calling(a_principal(new_id("ten_")))):
        await asyncio.gather(*(stub.Reserve(a_request(10, f"req_{number}")) for number in range(100)))
        assert (await stub.GetBudget(pb.GetBudgetRequest())).budget.held.nano_usd == 100 * 10 * 250


async def test_without_its_database_it_starts_and_reserves_nothing() -> None:
    nowhere = PostgresSection(dsn=SecretStr(f"postgresql://metering_app@127.0.0.1:{free_port()}/argosy"))
    async with serving(nowhere) as stub:
        with acting(calling(a_principal())), pytest.raises(RemoteFailure) as refused:
            await stub.Reserve(a_request(10))
    assert (refused.value.kind, refused.value.reason) == (Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE")
