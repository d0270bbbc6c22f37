from datetime import timedelta
from typing import Any

import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import events_pb2
from chassis.kafka import Record, Undecodable
from chassis.testing import FakeClock
from metering.prices.model import PriceCache
from metering.settlement.consumer import TOPIC, UsageConsumer, proto_to_event
from metering.settlement.model import Outcome, RightSized
from values.money import MAX_TOKENS, NanoUsd
from values.protos import timestamp_to_proto
from values.usage import TokenUsage, UsageSource

from services.metering.tests.examples import a_price, a_reservation, metric
from services.metering.tests.fakes import FakePriceBook, Stores, fake_stores

PRICE = a_price()
REPORTED, COUNTED, UNKNOWN = (
    common_pb2.USAGE_SOURCE_REPORTED,
    common_pb2.USAGE_SOURCE_COUNTED,
    common_pb2.USAGE_SOURCE_UNKNOWN,
)


def a_message(**changes: object) -> events_pb2.UsageRecorded:
    usage = common_pb2.TokenUsage(source=REPORTED, input_tokens=7, output_tokens=0)
    facts: dict[str, object] = {
        "meta": common_pb2.EventMeta(
            event_id="evt_1",
            tenant_id="ten_a",
            occurred_at=timestamp_to_proto(FakeClock().now() - timedelta(seconds=3)),
        ),
        "request_id": "req_1",
        "attempts": [
            events_pb2.AttemptUsage(
                attempt=1, price_key=PRICE.price.key, price_version=PRICE.price.version, usage=usage
            )
        ],
        "key_id": "key_1",
        "project_id": "prj_1",
    }
    return events_pb2.UsageRecorded(**{**facts, **changes})  # type: ignore[arg-type]


def a_record(message: events_pb2.UsageRecorded) -> Record:
    return Record(TOPIC, b"ten_a", message.SerializeToString())


def an_attempt(**changes: object) -> events_pb2.UsageRecorded:
    attempt = a_message().attempts[0]
    facts = {"attempt": 1, "price_key": attempt.price_key, "price_version": attempt.price_version}
    return a_message(attempts=[events_pb2.AttemptUsage(**{**facts, "usage": attempt.usage, **changes})])  # type: ignore[arg-type]


@pytest.fixture
def stores() -> Stores:
    return fake_stores(FakeClock())


@pytest.fixture
def events(stores: Stores) -> UsageConsumer:
    clock = FakeClock()
    prices = PriceCache(FakePriceBook(clock, [PRICE]), clock, timedelta(seconds=5))
    return UsageConsumer(settlements=stores.settlements, prices=prices, clock=clock)


async def test_records_are_settled(events: UsageConsumer, stores: Stores) -> None:
    await stores.reservations.reserve(a_reservation("ten_a", PRICE, 10, request_id="req_1"))
    await events.settle([a_record(a_message()), a_record(a_message(request_id="req_2"))])

    for request_id in ("req_1", "req_2"):
        (settlement,) = (await stores.settlements.statement("ten_a", request_id)).settlements
        assert (settlement.outcome, settlement.cost, settlement.event_id) == (Outcome.BILLED, NanoUsd(7), "evt_1")
    assert metric("settle_lag_seconds") == 3


@pytest.mark.parametrize(
    "message",
    [
        a_message(meta=common_pb2.EventMeta(event_id="evt_1", tenant_id="*")),
        a_message(meta=common_pb2.EventMeta(event_id="evt_1", tenant_id="")),
        a_message(meta=common_pb2.EventMeta(event_id="", tenant_id="ten_a")),
        a_message(meta=common_pb2.EventMeta(event_id="evt\0", tenant_id="ten_a")),
        a_message(request_id=""),
        a_message(request_id="r" * 1000),
        a_message(request_id="req_\0"),
        a_message(key_id="\0"),
        a_message(project_id="p" * 1000),
        a_message(attempts=[a_message().attempts[0], a_message().attempts[0]]),
        an_attempt(attempt=0),
        an_attempt(attempt=-1),
        an_attempt(attempt=2**31 - 1),
        an_attempt(price_key=""),
        an_attempt(price_key="local/\0"),
        an_attempt(price_version="\0"),
        an_attempt(price_version="prc_none"),
        an_attempt(price_version=""),
        an_attempt(price_key="local/other"),
        an_attempt(usage=common_pb2.TokenUsage(source=REPORTED, input_tokens=-1, output_tokens=1)),
        an_attempt(usage=common_pb2.TokenUsage(source=REPORTED, input_tokens=1, output_tokens=MAX_TOKENS + 1)),
        an_attempt(usage=common_pb2.TokenUsage(source=UNKNOWN, input_tokens=2**63 - 1)),
    ],
)
async def test_an_event_that_can_never_be_settled_is_undecodable_and_nothing_of_its_batch_is_written(
    events: UsageConsumer, stores: Stores, message: events_pb2.UsageRecorded
) -> None:
    await stores.reservations.reserve(a_reservation("ten_a", PRICE, 10, request_id="req_good"))
    with pytest.raises(Undecodable):
        await events.settle([a_record(a_message(request_id="req_good")), a_record(message)])
    assert (await stores.settlements.statement("ten_a", "req_good")).settlements == ()


@pytest.mark.parametrize("value", [b"\xff", b"not protobuf", b"\x0a\xff\xff"])
async def test_bytes_that_are_no_message_are_undecodable(events: UsageConsumer, value: bytes) -> None:
    with pytest.raises(Undecodable):
        await events.settle([Record(TOPIC, b"", value)])


@pytest.mark.parametrize(
    ("changes", "saved"),
    [
        ({}, 7 * 3 - 7),
        ({"answer": 0}, -7),
        ({"answer": 5}, -7),
        ({"attempts": []}, None),
        ({"attempts": [2]}, None),
        ({"price_version": "prc_none"}, None),
        ({"price_version": ""}, None),
        ({"price_version": "prc_\0"}, None),
        ({"price_key": "far/other"}, None),
        ({"model": ""}, None),
        ({"model": "gpt\0"}, None),
    ],
)
async def test_right_sizing_that_makes_no_sense_does_not_hold_a_bill_up(
    stores: Stores, changes: dict[str, Any], saved: int | None
) -> None:
    clock = FakeClock()
    dear = a_price("far/dear", input_usd=3)
    events = UsageConsumer(
        settlements=stores.settlements,
        prices=PriceCache(FakePriceBook(clock, [PRICE, dear]), clock, timedelta(seconds=5)),
        clock=clock,
    )
    facts: dict[str, Any] = {
        "model": "gpt",
        "price_key": dear.price.key,
        "price_version": dear.price.version,
        "attempts": [1],
        "answer": 1,
    }
    message = a_message(right_sizing=events_pb2.RightSizing(**{**facts, **changes}))
    await events.settle([a_record(message)])

    (settlement,) = (await stores.settlements.statement("ten_a", "req_1")).settlements
    assert settlement.cost == 7
    sized = None if saved is None else RightSized(dear.price.key, dear.price.version, NanoUsd(saved))
    assert settlement.right_sizing == sized


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (common_pb2.TokenUsage(), TokenUsage(UsageSource.UNKNOWN)),
        (common_pb2.TokenUsage(source=REPORTED, input_tokens=0), TokenUsage(UsageSource.REPORTED, 0, None)),
        (
            common_pb2.TokenUsage(source=COUNTED, input_tokens=0, output_tokens=0),
            TokenUsage(UsageSource.COUNTED, 0, 0),
        ),
        (common_pb2.TokenUsage(source=99, input_tokens=1, output_tokens=1), TokenUsage(UsageSource.UNKNOWN, 1, 1)),  # type: ignore[arg-type]
    ],
)
def test_an_absent_count_stays_absent(usage: common_pb2.TokenUsage, read: TokenUsage) -> None:
    assert proto_to_event(an_attempt(usage=usage)).attempts[0].usage == read


async def test_a_time_out_of_range_does_not_stop_a_settlement(events: UsageConsumer, stores: Stores) -> None:
    message = a_message()
    message.meta.occurred_at.seconds = 2**60
    await events.settle([a_record(message)])
    assert (await stores.settlements.statement("ten_a", "req_1")).settlements
