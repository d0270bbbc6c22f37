"""The service as `main` builds it, called over gRPC. Kafka is unreachable, so it settles nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2, metering_pb2_grpc
from chassis.clock import SystemClock
from chassis.errors import Kind, RemoteError
from chassis.grpc import Channel, GrpcServer
from chassis.ids import new_id
from chassis.lifecycle import Component, with_builder
from chassis.lifecycle.components import readiness
from chassis.redis import pooled
from chassis.settings import GrpcSection, PostgresSection, PrincipalSection
from chassis.telemetry import Telemetry
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller
from chassis.testing import SECRET, a_principal, free_port
from metering.main import build
from metering.prices import redis as adapter
from metering.settings import PriceChangesSection, Settings, UsageEventsSection
from pydantic import SecretStr
from values.money import NanoUsd

from services.metering.tests.fakes import Stores

CHAT = "local/chat"


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
        kafka=UsageEventsSection(bootstrap=f"127.0.0.1:{free_port()}", signing_keys=(SecretStr(f"tests-1:{SECRET}"),)),
        principal=PrincipalSection(secrets=(SecretStr(SECRET),)),
        grpc=GrpcSection(bind="127.0.0.1:0"),
        **more,
    )
    telemetry = cast("Telemetry", SimpleNamespace(service="metering"))
    async with with_builder(build)(settings, telemetry) as components:
        for component in components:
            await component.start()
        server = components[-1]
        assert isinstance(server, GrpcServer)
        async with Channel(f"127.0.0.1:{server.port}", "metering") as channel:
            yield metering_pb2_grpc.MeteringServiceStub(cast("Any", channel)), components
        for component in reversed(components):
            await component.stop()


@pytest.fixture
async def stub(section: PostgresSection, stores: Stores) -> AsyncIterator[Any]:
    await stores.price_book.add(CHAT, NanoUsd(50_000_000), NanoUsd(200_000_000))
    async with serving(section) as stub:
        yield stub


def calling(principal: Principal) -> Caller:
    """Make a caller; its principal is signed by the clock of the machine, which the service uses too."""
    return Caller(principal, PrincipalSigner(SECRET, "tests", SystemClock()).sign(principal), new_id("req_"))


def a_request(tokens: int, request_id: str = "req_1") -> metering_pb2.ReserveRequest:
    bound = metering_pb2.TokenBound(price_key=CHAT, input_tokens=tokens, output_tokens=tokens)
    return metering_pb2.ReserveRequest(request_id=request_id, bounds=[bound])


async def set_price(stub: Any, key: str, nano_usd: int) -> metering_pb2.Price:
    """Put a price for input in force, as an admin."""
    price = metering_pb2.Price(
        price_key=key,
        input_per_million=common_pb2.Money(nano_usd=nano_usd),
        output_per_million=common_pb2.Money(nano_usd=0),
    )
    with as_caller(calling(a_principal(roles=["platform_admin"]))):
        return cast("metering_pb2.Price", (await stub.SetPrice(metering_pb2.SetPriceRequest(price=price))).price)


async def listed(stub: Any, key: str) -> metering_pb2.Price | None:
    """Return the price that this replica has for the key."""
    with as_caller(calling(a_principal())):
        prices = (await stub.ListPrices(metering_pb2.ListPricesRequest())).prices
    return next((price for price in prices if price.price_key == key), None)


async def test_money_is_reserved_at_the_price_in_force_and_shown_to_its_tenant_alone(stub: Any) -> None:
    ours, theirs = calling(a_principal(new_id("ten_"))), calling(a_principal(new_id("ten_")))
    with as_caller(ours):
        reserved = await stub.Reserve(a_request(100))
        account = await stub.GetRequestStatement(metering_pb2.GetRequestStatementRequest(request_id="req_1"))
        budget = (await stub.GetBudget(metering_pb2.GetBudgetRequest())).budget

    assert reserved.held.nano_usd == account.reservation.held.nano_usd == budget.held.nano_usd == 100 * (50 + 200)
    assert budget.cap.nano_usd == 100 * 10**9
    with as_caller(theirs), pytest.raises(RemoteError) as refused:
        await stub.GetRequestStatement(metering_pb2.GetRequestStatementRequest(request_id="req_1"))
    assert (refused.value.kind, refused.value.reason) == (Kind.NOT_FOUND, "REQUEST_NOT_FOUND")


async def test_errors_keep_their_reasons_on_the_wire(stub: Any) -> None:
    tenant = new_id("ten_")
    with as_caller(calling(a_principal(roles=["platform_admin"]))):
        await stub.SetBudget(metering_pb2.SetBudgetRequest(tenant_id=tenant, cap=common_pb2.Money(nano_usd=1000)))
    unpriced = metering_pb2.ReserveRequest(
        request_id="req_2", bounds=[metering_pb2.TokenBound(price_key="local/none", input_tokens=1)]
    )

    for request, kind, reason in (
        (a_request(100), Kind.EXHAUSTED, "INSUFFICIENT_QUOTA"),
        (unpriced, Kind.INVALID, "UNPRICED_MODEL"),
        (a_request(-1), Kind.INVALID, "INVALID_REQUEST"),
    ):
        with as_caller(calling(a_principal(tenant))), pytest.raises(RemoteError) as refused:
            await stub.Reserve(request)
        assert (refused.value.kind, refused.value.reason) == (kind, reason)
        prices = {"input_per_million_nano_usd"} if reason == "INSUFFICIENT_QUOTA" else set()
        assert set(refused.value.details) == prices


@pytest.mark.parametrize("request_id", ["", "req\0", "r" * 129])
async def test_a_text_that_cannot_be_a_request_id_is_not_found(stub: Any, request_id: str) -> None:
    with as_caller(calling(a_principal(new_id("ten_")))), pytest.raises(RemoteError) as refused:
        await stub.GetRequestStatement(metering_pb2.GetRequestStatementRequest(request_id=request_id))
    assert refused.value.reason == "REQUEST_NOT_FOUND"


async def test_a_call_without_a_principal_or_with_a_forged_one_is_refused(stub: Any) -> None:
    principal = a_principal(roles=["platform_admin"])
    forged = Caller(principal, PrincipalSigner("x" * 40, "tests", SystemClock()).sign(principal), "req_1")
    for caller in (Caller(principal, "", "req_1"), forged):
        with as_caller(caller), pytest.raises(RemoteError) as refused:
            await stub.GetBudget(metering_pb2.GetBudgetRequest())
        assert refused.value.reason == "PRINCIPAL_INVALID"


async def test_the_next_reservation_uses_a_price_put_in_force(stub: Any) -> None:
    key = f"local/{new_id('m')}"
    made = await set_price(stub, key, 7)
    with as_caller(calling(a_principal(new_id("ten_")))):
        bounds = [metering_pb2.TokenBound(price_key=key, input_tokens=1_000_001)]
        reserved = await stub.Reserve(metering_pb2.ReserveRequest(request_id="req_1", bounds=bounds))

    assert (reserved.held.nano_usd, list(reserved.prices)) == (8, [made])
    assert await listed(stub, key) == made


async def test_other_replicas_see_a_new_price_long_before_the_ttl(
    section: PostgresSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "CHANNEL", new_id("test-"))  # a channel of this test's own
    monkeypatch.setattr(pooled, "TIMEOUT_SECONDS", 30)  # a change that is not published in time is lost
    key, more = f"local/{new_id('m')}", {"redis": PriceChangesSection(url=os.environ["ARGOSY_REDIS_URL"])}
    ttl = timedelta(hours=1)
    async with serving(section, prices_ttl=ttl, **more) as one, serving(section, prices_ttl=ttl, **more) as other:
        assert await listed(other, key) is None  # from here on it has a cached book
        for nano_usd in (7, 8, 9):
            made = await set_price(one, key, nano_usd)
            async with asyncio.timeout(30):
                while await listed(other, key) != made:
                    await asyncio.sleep(0.01)


async def test_without_redis_a_price_is_put_in_force_and_the_service_stays_ready(section: PostgresSection) -> None:
    nowhere = PriceChangesSection(url=f"redis://127.0.0.1:{free_port()}/0")
    async with running(section, redis=nowhere) as (stub, components):
        key = f"local/{new_id('m')}"
        made = await set_price(stub, key, 7)

        assert await listed(stub, key) == made
        async with asyncio.timeout(60):
            while (ready := await readiness(components))["redis"] != "ok":
                await asyncio.sleep(0.02)
        assert ready["postgres"]
        assert not [name for name in ready if "price" in name]


async def test_a_hundred_callers_at_once_are_all_answered(stub: Any) -> None:
    with as_caller(calling(a_principal(new_id("ten_")))):
        await asyncio.gather(*(stub.Reserve(a_request(10, f"req_{number}")) for number in range(100)))
        assert (await stub.GetBudget(metering_pb2.GetBudgetRequest())).budget.held.nano_usd == 100 * 10 * 250


async def test_without_its_database_it_starts_and_reserves_nothing() -> None:
    nowhere = PostgresSection(dsn=SecretStr(f"postgresql://metering_app@127.0.0.1:{free_port()}/argosy"))
    async with serving(nowhere) as stub:
        with as_caller(calling(a_principal())), pytest.raises(RemoteError) as refused:
            await stub.Reserve(a_request(10))
    assert (refused.value.kind, refused.value.reason) == (Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE")
