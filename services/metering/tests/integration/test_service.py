"""The service as `main` puts it together, asked over gRPC; Kafka is away, which only keeps it from settling."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import pytest
from argosy.common.v1 import common_pb2 as common
from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1 import metering_pb2_grpc as rpc
from chassis.clock import SystemClock
from chassis.errors import Kind, RemoteError
from chassis.grpc import Channel, GrpcServer
from chassis.ids import new_id
from chassis.lifecycle import Component
from chassis.lifecycle.components import readiness
from chassis.settings import GrpcSection, PostgresSection, PrincipalSection
from chassis.telemetry import Telemetry
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller
from chassis.testing import SECRET, a_principal, free_port
from metering.adapters import redis as adapter
from metering.main import build
from metering.settings import EventsSection, NewsSection, Settings
from pydantic import SecretStr

CHAT = "local/smollm2-135m-instruct"


@asynccontextmanager
async def serving(section: PostgresSection, **more: Any) -> AsyncIterator[Any]:
    """Run the service and yield a stub to it."""
    async with running(section, **more) as (stub, _):
        yield stub


@asynccontextmanager
async def running(section: PostgresSection, **more: Any) -> AsyncIterator[tuple[Any, Sequence[Component]]]:
    """Run the service and yield a stub to it, and its parts."""
    settings = Settings(
        postgres=section,
        kafka=EventsSection(bootstrap=f"127.0.0.1:{free_port()}"),
        principal=PrincipalSection(secrets=(SecretStr(SECRET),)),
        grpc=GrpcSection(bind="127.0.0.1:0"),
        **more,
    )
    async with build(settings, cast("Telemetry", None)) as components:
        for component in components:
            await component.start()
        door = components[-1]
        assert isinstance(door, GrpcServer)
        async with Channel(f"127.0.0.1:{door.port}", "metering") as channel:
            yield rpc.MeteringServiceStub(cast("Any", channel)), components
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


async def set_price(stub: Any, key: str, nano_usd: int) -> pb.Price:
    """Put a price for input in force, as an admin."""
    price = pb.Price(
        price_key=key, input_per_million=common.Money(nano_usd=nano_usd), output_per_million=common.Money(nano_usd=0)
    )
    with as_caller(calling(a_principal(roles=["admin"]))):
        return cast("pb.Price", (await stub.SetPrice(pb.SetPriceRequest(price=price))).price)


async def listed(stub: Any, key: str) -> pb.Price | None:
    """Return what the key costs by the book that this replica knows."""
    with as_caller(calling(a_principal())):
        prices = (await stub.ListPrices(pb.ListPricesRequest())).prices
    return next((price for price in prices if price.price_key == key), None)


async def test_money_is_reserved_at_the_seeded_price_and_shown_to_its_tenant_alone(stub: Any) -> None:
    ours, theirs = calling(a_principal(new_id("ten_"))), calling(a_principal(new_id("ten_")))
    with as_caller(ours):
        reserved = await stub.Reserve(a_request(100))
        account = await stub.GetRequestStatement(pb.GetRequestStatementRequest(request_id="req_1"))
        budget = (await stub.GetBudget(pb.GetBudgetRequest())).budget

    assert reserved.held.nano_usd == account.reservation.held.nano_usd == budget.held.nano_usd == 100 * (50 + 200)
    assert budget.cap.nano_usd == 100 * 10**9
    with as_caller(theirs), pytest.raises(RemoteError) as refused:
        await stub.GetRequestStatement(pb.GetRequestStatementRequest(request_id="req_1"))
    assert (refused.value.kind, refused.value.reason) == (Kind.NOT_FOUND, "REQUEST_NOT_FOUND")


async def test_refusals_keep_their_reasons_on_the_wire(stub: Any) -> None:
    tenant = new_id("ten_")
    with as_caller(calling(a_principal(roles=["admin"]))):
        await stub.SetBudget(pb.SetBudgetRequest(tenant_id=tenant, cap=common.Money(nano_usd=1000)))
    unpriced = pb.ReserveRequest(request_id="req_2", bounds=[pb.Bound(price_key="local/none", input_tokens=1)])

    for request, kind, reason in (
        (a_request(100), Kind.EXHAUSTED, "INSUFFICIENT_QUOTA"),
        (unpriced, Kind.INVALID, "UNPRICED_MODEL"),
        (a_request(-1), Kind.INVALID, "INVALID_REQUEST"),
    ):
        with as_caller(calling(a_principal(tenant))), pytest.raises(RemoteError) as refused:
            await stub.Reserve(request)
        assert (refused.value.kind, refused.value.reason) == (kind, reason)


@pytest.mark.parametrize("request_id", ["", "req\0", "r" * 129])
async def test_what_can_be_no_request_s_id_is_not_found(stub: Any, request_id: str) -> None:
    with as_caller(calling(a_principal(new_id("ten_")))), pytest.raises(RemoteError) as refused:
        await stub.GetRequestStatement(pb.GetRequestStatementRequest(request_id=request_id))
    assert refused.value.reason == "REQUEST_NOT_FOUND"


async def test_a_call_without_a_principal_or_with_a_forged_one_is_refused(stub: Any) -> None:
    principal = a_principal(roles=["admin"])
    forged = Caller(principal, PrincipalSigner("x" * 40, "tests", SystemClock()).sign(principal), "req_1")
    for caller in (Caller(principal, "", "req_1"), forged):
        with as_caller(caller), pytest.raises(RemoteError) as refused:
            await stub.GetBudget(pb.GetBudgetRequest())
        assert refused.value.reason == "PRINCIPAL_INVALID"


async def test_a_price_put_in_force_holds_for_the_next_reservation(stub: Any) -> None:
    key = f"local/{new_id('m')}"
    made = await set_price(stub, key, 7)
    with as_caller(calling(a_principal(new_id("ten_")))):
        bounds = [pb.Bound(price_key=key, input_tokens=1_000_001)]
        reserved = await stub.Reserve(pb.ReserveRequest(request_id="req_1", bounds=bounds))

    assert (reserved.held.nano_usd, list(reserved.prices)) == (8, [made])
    assert await listed(stub, key) == made


async def test_a_price_put_in_force_at_one_replica_holds_at_the_others_long_before_the_ttl(
    section: PostgresSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "CHANNEL", new_id("test-"))  # no other test speaks here
    key, more = f"local/{new_id('m')}", {"redis": NewsSection(url=os.environ["ARGOSY_REDIS_URL"])}
    ttl = timedelta(hours=1)
    async with serving(section, prices_ttl=ttl, **more) as one, serving(section, prices_ttl=ttl, **more) as other:
        assert await listed(other, key) is None  # and from here on it knows the book
        for nano_usd in (7, 8, 9):
            made = await set_price(one, key, nano_usd)
            async with asyncio.timeout(10):
                while await listed(other, key) != made:
                    await asyncio.sleep(0.01)


async def test_without_redis_a_price_is_put_in_force_and_the_service_stays_ready(section: PostgresSection) -> None:
    nowhere = NewsSection(url=f"redis://127.0.0.1:{free_port()}/0")
    async with running(section, redis=nowhere) as (stub, components):
        key = f"local/{new_id('m')}"
        made = await set_price(stub, key, 7)

        assert await listed(stub, key) == made
        ready = await readiness(components)
        assert ready["postgres"]
        assert not [name for name in ready if "price" in name or "redis" in name]


async def test_a_hundred_callers_at_once_are_all_answered(stub: Any) -> None:
    with as_caller(calling(a_principal(new_id("ten_")))):
        await asyncio.gather(*(stub.Reserve(a_request(10, f"req_{number}")) for number in range(100)))
        assert (await stub.GetBudget(pb.GetBudgetRequest())).budget.held.nano_usd == 100 * 10 * 250


async def test_without_its_database_it_starts_and_reserves_nothing() -> None:
    nowhere = PostgresSection(dsn=SecretStr(f"postgresql://metering_app@127.0.0.1:{free_port()}/argosy"))
    async with serving(nowhere) as stub:
        with as_caller(calling(a_principal())), pytest.raises(RemoteError) as refused:
            await stub.Reserve(a_request(10))
    assert (refused.value.kind, refused.value.reason) == (Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE")
