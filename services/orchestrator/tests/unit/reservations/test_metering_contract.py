"""The contract of a metering client, kept by the fake and by the real client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from chassis.errors import Kind, RemoteError
from chassis.tenancy import PrincipalSigner, as_caller
from chassis.testing import SECRET, FakeClock, a_caller, a_principal
from chassis.testing.grpc import serving
from orchestrator.errors import is_refusal
from orchestrator.reservations.metering_client import GrpcMeteringClient
from orchestrator.reservations.model import AttemptStart, HitRequest, ReservedHit, TokenBound, refused_input_prices
from orchestrator.reservations.ports import MeteringClient
from orchestrator.usage.model import AttemptUsage
from values.money import ClassPrices, NanoUsd, cost, discount
from values.usage import (
    UNKNOWN_USAGE,
    AbsentClasses,
    CacheOutcome,
    ExposureCause,
    TokenDetails,
    TokenUsage,
    UsageSource,
)

from services.orchestrator.tests.fakes import FakeMeteringClient
from services.orchestrator.tests.in_memory_peers import InMemoryMetering

LEASE, TIMEOUT = timedelta(minutes=10), timedelta(seconds=5)
CHEAP, DEAR = TokenBound("local/smollm2-135m-instruct", 1_000, 1_000), TokenBound("dear/model", 10, 20)


@pytest.fixture
def metering() -> FakeMeteringClient:
    return FakeMeteringClient()


@pytest.fixture(params=["fake", "grpc"])
async def client(request: pytest.FixtureRequest, metering: FakeMeteringClient) -> AsyncIterator[MeteringClient]:
    if request.param == "fake":
        yield metering
        return
    async with serving(InMemoryMetering(metering).registration) as channel:
        with as_caller(a_caller()):
            yield GrpcMeteringClient(channel, PrincipalSigner(SECRET, "orchestrator", FakeClock()))


async def test_the_most_expensive_bound_is_held_and_prices_have_the_order_of_the_bounds(client: MeteringClient) -> None:
    reservation = await client.reserve("req_1", [DEAR, CHEAP], LEASE, TIMEOUT)

    assert reservation.held == max(10 * 2_500 + 20 * 10_000, 1_000 * 50 + 1_000 * 200)
    assert [price.key for price in reservation.prices] == ["dear/model", "local/smollm2-135m-instruct"]
    assert reservation.prices[0].input_per_million == 2_500_000_000
    assert not reservation.soft_limit_passed


async def test_reserving_again_gives_the_same_reservation(client: MeteringClient, metering: FakeMeteringClient) -> None:
    first = await client.reserve("req_1", [CHEAP], LEASE, TIMEOUT)

    assert await client.reserve("req_1", [CHEAP], LEASE, TIMEOUT) == first
    assert metering.reserved == {"req_1": ((CHEAP,), LEASE)}


async def test_classes_of_tokens_have_their_prices_and_those_that_are_absent_are_not_held_for(
    client: MeteringClient, metering: FakeMeteringClient
) -> None:
    classes = ClassPrices(cached_input=NanoUsd(0), cache_write=NanoUsd(90_000_000))
    metering.classes = {CHEAP.price_key: classes}
    text = CHEAP._replace(absent=AbsentClasses(cache_writes=True, audio_output=True))

    reservation = await client.reserve("req_1", [CHEAP], LEASE, TIMEOUT)
    assert reservation.held == 1_000 * 90 + 1_000 * 200
    assert reservation.prices[0].classes == classes
    assert (await client.reserve("req_2", [text], LEASE, TIMEOUT)).held == 1_000 * 50 + 1_000 * 200
    assert metering.reserved["req_2"] == ((text,), LEASE)


async def test_a_passed_soft_limit_is_reported(client: MeteringClient, metering: FakeMeteringClient) -> None:
    metering.soft_limit_passed = True

    assert (await client.reserve("req_1", [CHEAP], LEASE, TIMEOUT)).soft_limit_passed


async def test_an_unpriced_model_is_refused(client: MeteringClient) -> None:
    with pytest.raises(RemoteError) as refused:
        await client.reserve("req_1", [TokenBound("new/model", 1, 1)], LEASE, TIMEOUT)

    assert (refused.value.kind, refused.value.reason) == (Kind.INVALID, "UNPRICED_MODEL")
    assert is_refusal(refused.value)


async def test_an_exhausted_budget_is_refused(client: MeteringClient, metering: FakeMeteringClient) -> None:
    metering.available = 10

    with pytest.raises(RemoteError) as refused:
        await client.reserve("req_1", [CHEAP], LEASE, TIMEOUT)

    assert (refused.value.kind, refused.value.reason) == (Kind.EXHAUSTED, "INSUFFICIENT_QUOTA")
    assert refused_input_prices(refused.value) == (metering.price_of(CHEAP.price_key).input_per_million,)
    assert not metering.reserved


async def test_a_started_attempt_is_held_beside_those_before(
    client: MeteringClient, metering: FakeMeteringClient
) -> None:
    reservation = await client.reserve("req_1", [CHEAP, DEAR], LEASE, TIMEOUT)
    ended = (AttemptUsage(1, reservation.prices[0], UNKNOWN_USAGE, ExposureCause.PROVIDER),)

    held = await client.start_attempt(a_principal(), AttemptStart("req_1", 2, 1, ended), TIMEOUT)

    assert held == (1_000 * 50 + 1_000 * 200) + (10 * 2_500 + 20 * 10_000)
    (start,) = metering.starts
    assert (start.request_id, start.number, start.bound) == ("req_1", 2, 1)
    (attempt,) = start.ended
    assert (attempt.number, attempt.price.version, attempt.usage) == (1, reservation.prices[0].version, UNKNOWN_USAGE)
    assert attempt.exposure_cause is ExposureCause.PROVIDER


async def test_an_attempt_that_the_budget_does_not_cover_is_refused(
    client: MeteringClient, metering: FakeMeteringClient
) -> None:
    await client.reserve("req_1", [CHEAP], LEASE, TIMEOUT)
    metering.start_failure = RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent")

    with pytest.raises(RemoteError) as refused:
        await client.start_attempt(a_principal(), AttemptStart("req_1", 2, 0, ()), TIMEOUT)

    assert is_refusal(refused.value)


def a_hit(request_id: str, tenant_id: str = "ten_a", off: int = 50, tokens: int = 101) -> HitRequest:
    usage = TokenUsage(UsageSource.REPORTED, tokens, 3, TokenDetails(cached_input=7))
    return HitRequest(a_principal(tenant_id), request_id, CHEAP.price_key, usage, off, CacheOutcome.SEMANTIC)


async def test_hits_of_any_tenants_are_held_together_each_with_its_price(
    client: MeteringClient, metering: FakeMeteringClient
) -> None:
    hits = [a_hit("req_1"), a_hit("req_2", "ten_b", off=0), a_hit("req_3"), a_hit("req_4", tokens=7)]
    results = await client.reserve_hits(hits, LEASE, TIMEOUT)

    reserved = [one for one in results if isinstance(one, ReservedHit)]
    full = metering.price_of(CHEAP.price_key)
    assert [one.price for one in reserved] == [discount(full, off) for off in (50, 0, 50, 50)]
    assert metering.hit_groups == [["req_1", "req_2", "req_3", "req_4"]]
    absent = AbsentClasses(cache_writes=True, audio_input=True, audio_output=True)
    assert metering.reserved["req_4"] == ((TokenBound(CHEAP.price_key, 7, 3, absent),), LEASE)
    assert not any(one.soft_limit_passed for one in reserved)


async def test_hits_that_cannot_be_paid_are_refused_one_by_one(
    client: MeteringClient, metering: FakeMeteringClient
) -> None:
    full = metering.price_of(CHEAP.price_key)
    metering.available = 2 * cost(101, 3, full)
    metering.soft_limit_passed = True
    unpriced = a_hit("req_2", off=0)._replace(price_key="new/model")
    hits = [a_hit("req_1", off=0), unpriced, a_hit("req_3", off=0), a_hit("req_4", off=0)]
    results = await client.reserve_hits(hits, LEASE, TIMEOUT)

    reasons = [one.reason if isinstance(one, RemoteError) else one for one in results]
    held = ReservedHit(full, soft_limit_passed=True)
    assert reasons == [held, "UNPRICED_MODEL", held, "INSUFFICIENT_QUOTA"]
