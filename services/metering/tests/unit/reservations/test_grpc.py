import re
from datetime import timedelta
from typing import Any

import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import events_pb2, metering_pb2
from chassis.errors import ArgosyError, InvalidRequest, PermissionDenied
from chassis.tenancy import as_caller
from chassis.testing import FakeClock
from google.protobuf.duration_pb2 import Duration
from metering.budgets.model import BudgetSpent
from metering.grpc import MeteringServicer
from metering.prices.model import UnpricedModel
from values.protos import duration_to_proto, timestamp_to_proto

from services.metering.tests.examples import metric
from services.metering.tests.servicer import CHAT, EMBEDDING, MEMBER, SERVICE, a_request


def counted(outcome: str) -> float:
    return metric("reservations_total", outcome=outcome)


async def test_the_response_has_the_amount_held_and_the_prices_of_the_bounds(servicer: MeteringServicer) -> None:
    request = metering_pb2.ReserveRequest(
        request_id="req_1",
        bounds=[
            metering_pb2.TokenBound(price_key="minilm/embed", input_tokens=10),
            metering_pb2.TokenBound(price_key="local/chat", input_tokens=10, output_tokens=30),
        ],
    )
    with as_caller(MEMBER):
        response = await servicer.Reserve(request, None)

    assert response.held.nano_usd == 70
    assert [price.version for price in response.prices] == [EMBEDDING.price.version, CHAT.price.version]
    assert response.prices[1].output_per_million.nano_usd == 2_000_000
    assert response.prices[0].effective_at == timestamp_to_proto(EMBEDDING.effective_at)
    assert not response.soft_limit_passed


async def test_a_repeat_gets_the_same_response(servicer: MeteringServicer) -> None:
    before = counted("repeated")
    with as_caller(MEMBER):
        assert await servicer.Reserve(a_request(), None) == await servicer.Reserve(a_request(), None)
    assert counted("repeated") == before + 1


async def test_the_soft_limit_is_passed_at_80_percent(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        assert not (await servicer.Reserve(a_request(799), None)).soft_limit_passed
        assert (await servicer.Reserve(a_request(1, "req_2"), None)).soft_limit_passed


async def test_the_lease_is_that_of_the_request_or_the_default(servicer: MeteringServicer, clock: FakeClock) -> None:
    lease = duration_to_proto(timedelta(seconds=90))
    with as_caller(MEMBER):
        await servicer.Reserve(a_request(), None)
        await servicer.Reserve(a_request(request_id="req_2", lease=lease), None)
        leases = [
            (
                await servicer.GetRequestStatement(metering_pb2.GetRequestStatementRequest(request_id=name), None)
            ).reservation.expires_at
            for name in ("req_1", "req_2")
        ]
    assert leases == [timestamp_to_proto(clock.now() + timedelta(seconds=seconds)) for seconds in (600, 90)]


@pytest.mark.parametrize(
    ("request_", "error", "outcome"),
    [
        (a_request(1001), BudgetSpent, "insufficient_quota"),
        (a_request(-1), InvalidRequest, "invalid_request"),
        (a_request(lease=Duration(seconds=10**11)), InvalidRequest, "invalid_request"),
        (a_request(lease=Duration(seconds=2**62)), InvalidRequest, "invalid_request"),
        (a_request(lease=Duration(seconds=-1)), InvalidRequest, "invalid_request"),
        (
            metering_pb2.ReserveRequest(request_id="r", bounds=[metering_pb2.TokenBound(price_key="local/none")]),
            UnpricedModel,
            "unpriced_model",
        ),
    ],
)
async def test_a_refusal_is_typed_and_counted(
    servicer: MeteringServicer, request_: metering_pb2.ReserveRequest, error: type[ArgosyError], outcome: str
) -> None:
    before = counted(outcome)
    with as_caller(MEMBER), pytest.raises(error):
        await servicer.Reserve(request_, None)
    assert counted(outcome) == before + 1


async def test_an_attempt_is_announced_with_what_ended_before_it(servicer: MeteringServicer) -> None:
    before = metric("started_attempts_total", outcome="started")
    ended = events_pb2.AttemptUsage(
        attempt=1, price_key="local/chat", usage=common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_UNKNOWN)
    )
    request = metering_pb2.StartAttemptRequest(request_id="req_1", attempt=2, bound=0, ended=[ended])
    with as_caller(MEMBER):
        await servicer.Reserve(a_request(100), None)
        held = [(await servicer.StartAttempt(request, None)).held.nano_usd for _ in range(2)]

    assert held == [200, 200]
    assert metric("started_attempts_total", outcome="started") == before + 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attempt": 1}, "INVALID_REQUEST"),
        ({"attempt": 100_000}, "INVALID_REQUEST"),
        ({"bound": 1}, "INVALID_REQUEST"),
        ({"request_id": "req_none"}, "REQUEST_NOT_FOUND"),
        ({"request_id": "req\0"}, "REQUEST_NOT_FOUND"),
        ({"ended": [events_pb2.AttemptUsage(attempt=2, price_key="local/chat")]}, "INVALID_REQUEST"),
        ({"ended": [events_pb2.AttemptUsage(attempt=1, price_key="local/other")]}, "INVALID_REQUEST"),
        (
            {
                "ended": [
                    events_pb2.AttemptUsage(
                        attempt=1, price_key="local/chat", usage=common_pb2.TokenUsage(input_tokens=-1)
                    )
                ]
            },
            "INVALID_REQUEST",
        ),
    ],
)
async def test_an_announcement_that_makes_no_sense_is_refused(
    servicer: MeteringServicer, change: dict[str, Any], reason: str
) -> None:
    arguments: dict[str, Any] = {"request_id": "req_1", "attempt": 2, "bound": 0} | change
    with as_caller(MEMBER):
        await servicer.Reserve(a_request(100), None)
        with pytest.raises(ArgosyError) as refused:
            await servicer.StartAttempt(metering_pb2.StartAttemptRequest(**arguments), None)
    assert refused.value.reason == reason


async def test_only_a_service_reserves_at_a_discount(servicer: MeteringServicer) -> None:
    request = a_request()
    request.discount_percent = 50
    with as_caller(MEMBER), pytest.raises(PermissionDenied):
        await servicer.Reserve(request, None)
    with as_caller(SERVICE):
        full = await servicer.Reserve(a_request(request_id="req_full"), None)
        half = await servicer.Reserve(request, None)
    assert half.held.nano_usd * 2 == full.held.nano_usd
    assert half.prices[0].version == f"{full.prices[0].version}~50"


@pytest.mark.parametrize("percent", [-1, 100])
async def test_a_discount_is_less_than_all_of_the_price(servicer: MeteringServicer, percent: int) -> None:
    request = a_request()
    request.discount_percent = percent
    with as_caller(SERVICE), pytest.raises(InvalidRequest) as raised:
        await servicer.Reserve(request, None)
    assert raised.value.param == "discount_percent"


async def test_a_refusal_names_dollars_and_carries_the_input_prices(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER), pytest.raises(BudgetSpent) as refused:
        await servicer.Reserve(a_request(1001), None)

    assert re.fullmatch(r"the request may cost \$0\.\d+ and the budget has \$0\.\d+ left", refused.value.message)
    assert dict(refused.value.details) == {"input_per_million_nano_usd": str(CHAT.price.input_per_million)}
