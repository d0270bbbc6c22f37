"""The metering client, against a servicer that answers as the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from argosy.common.v1.common_pb2 import Money
from argosy.metering.v1 import metering_pb2 as metering
from chassis.errors import DeadlineExceeded, Internal, Kind, RemoteError
from chassis.tenancy import PrincipalSigner, as_caller
from chassis.testing import SECRET, FakeClock, a_caller
from chassis.testing.grpc import serving
from orchestrator.errors import is_refusal
from orchestrator.reservations.metering_client import GrpcMeteringClient
from orchestrator.reservations.model import Reservation, TokenBound
from values.money import NanoUsd, Price
from values.protos import proto_to_duration

from services.orchestrator.tests.peers import ScriptedMetering

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
BOUND = TokenBound("local/m", 10, 20)


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    with as_caller(a_caller(request_id="req_1")):
        yield


@asynccontextmanager
async def a_metering(servicer: ScriptedMetering) -> AsyncIterator[GrpcMeteringClient]:
    async with serving(servicer.registration) as channel:
        yield GrpcMeteringClient(channel, PrincipalSigner(SECRET, "orchestrator", FakeClock()))


class TestMetering:
    async def test_reserves_for_the_caller(self) -> None:
        price = metering.Price(
            price_key="local/m",
            version="prc_1",
            input_per_million=Money(nano_usd=50),
            output_per_million=Money(nano_usd=0),
        )
        reserved = metering.ReserveResponse(held=Money(nano_usd=77), prices=[price], soft_limit_passed=True)
        servicer = ScriptedMetering(reserved)
        async with a_metering(servicer) as adapter:
            reservation = await adapter.reserve("req_1", [BOUND], 600 * SECOND, MINUTE)

        assert reservation == Reservation(
            NanoUsd(77), (Price("local/m", "prc_1", NanoUsd(50), NanoUsd(0)),), soft_limit_passed=True
        )
        assert servicer.tenant == "ten_test"
        assert servicer.request == metering.ReserveRequest(
            request_id="req_1",
            bounds=[metering.TokenBound(price_key="local/m", input_tokens=10, output_tokens=20)],
            lease=servicer.request.lease if servicer.request else None,
        )
        assert servicer.request is not None
        assert proto_to_duration(servicer.request.lease) == 600 * SECOND

    async def test_a_refusal_is_raised_as_it_came(self) -> None:
        refusal = RemoteError(Kind.INVALID, "UNPRICED_MODEL", "local/m has no price")
        async with a_metering(ScriptedMetering(refusal)) as adapter:
            with pytest.raises(RemoteError) as refused:
                await adapter.reserve("req_1", [BOUND], 600 * SECOND, MINUTE)

        assert (refused.value.reason, refused.value.message) == ("UNPRICED_MODEL", "local/m has no price")
        assert is_refusal(refused.value)

    async def test_a_timeout_is_no_refusal(self) -> None:
        async with a_metering(ScriptedMetering(None)) as adapter:
            with pytest.raises(DeadlineExceeded) as timed_out:
                await adapter.reserve("req_1", [BOUND], 600 * SECOND, timedelta(milliseconds=300))

        assert not is_refusal(timed_out.value)

    async def test_a_missing_price_is_an_internal_error(self) -> None:
        async with a_metering(ScriptedMetering(metering.ReserveResponse())) as adapter:
            with pytest.raises(Internal):
                await adapter.reserve("req_1", [BOUND], 600 * SECOND, MINUTE)
