from datetime import timedelta

import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
from chassis.tenancy import as_caller
from chassis.testing import FakeClock, a_caller, a_principal
from google.protobuf.timestamp_pb2 import Timestamp
from metering.grpc import MeteringServicer
from values.protos import timestamp_to_proto

from services.metering.tests.examples import a_reservation, an_event, as_easy, reported
from services.metering.tests.fakes import Stores
from services.metering.tests.servicer import CHAT, EMBEDDING, MEMBER


async def test_usage_is_the_tenant_s_own_and_adds_up(
    servicer: MeteringServicer, stores: Stores, clock: FakeClock
) -> None:
    for price in (CHAT, EMBEDDING):
        await stores.settlements.settle([an_event(a_reservation("ten_a", price, 0), reported(10))])
    with as_caller(MEMBER):
        usage = await servicer.GetUsage(metering_pb2.GetUsageRequest(by_day=True), None)
        later = metering_pb2.GetUsageRequest(start=timestamp_to_proto(clock.now() + timedelta(seconds=1)))
        assert await servicer.GetUsage(later, None) == metering_pb2.GetUsageResponse(
            total=common_pb2.Money(nano_usd=0), right_sizing_saved=common_pb2.Money(nano_usd=0)
        )
    with as_caller(a_caller(a_principal("ten_b"))):
        assert (await servicer.GetUsage(metering_pb2.GetUsageRequest(), None)).rows == []

    assert [(row.price_key, row.calls, row.cost.nano_usd) for row in usage.rows] == [
        ("local/chat", 1, 10),
        ("minilm/embed", 1, 30),
    ]
    assert usage.rows[0].day == timestamp_to_proto(clock.now().replace(hour=0, minute=0))
    assert usage.total.nano_usd == 40


async def test_what_right_sizing_saved_is_in_the_rows_the_total_and_by_model(
    servicer: MeteringServicer, stores: Stores
) -> None:
    for answer in (1, 0):
        event = an_event(a_reservation("ten_a", CHAT, 0), reported(10))
        await stores.settlements.settle([as_easy(event, EMBEDDING, answer)])
    with as_caller(MEMBER):
        usage = await servicer.GetUsage(metering_pb2.GetUsageRequest(), None)

    (row,), (sized,) = usage.rows, usage.right_sizing
    assert (row.cost.nano_usd, row.right_sizing_saved.nano_usd, row.saved.nano_usd) == (20, 30 - 20, 0)
    assert usage.right_sizing_saved.nano_usd == 10
    assert (sized.model, sized.requests, sized.answered) == ("gpt", 2, 1)
    assert (sized.HasField("day"), sized.cost.nano_usd, sized.saved.nano_usd) == (False, 20, 10)


@pytest.mark.parametrize("field", ["start", "end"])
async def test_a_time_out_of_range_is_refused(servicer: MeteringServicer, field: str) -> None:
    request = metering_pb2.GetUsageRequest(**{field: Timestamp(seconds=2**60)})  # type: ignore[arg-type]
    with as_caller(MEMBER), pytest.raises(InvalidRequest) as refused:
        await servicer.GetUsage(request, None)
    assert refused.value.param == field
