from datetime import timedelta

import pytest
from argosy.common.v1 import common_pb2 as common
from argosy.metering.v1 import events_pb2 as pb
from chassis.grpc import timestamp_to_proto
from chassis.kafka import Record, Undecodable
from chassis.testing import FakeClock
from metering.api.events import TOPIC, UsageEvents, from_proto_event
from metering.domain.money import MAX_TOKENS, NanoUsd
from metering.domain.prices import Prices
from metering.domain.settlement import Outcome
from metering.domain.usage import Source, Usage
from metering.metrics import SETTLE_LAG_SECONDS

from services.metering.tests.examples import a_hold, a_price
from services.metering.tests.fakes import Books, FakePriceBook, fake_books

PRICE = a_price()
REPORTED, COUNTED, UNKNOWN = (
    common.USAGE_SOURCE_REPORTED,
    common.USAGE_SOURCE_COUNTED,
    common.USAGE_SOURCE_UNKNOWN,
)


def a_message(**changes: object) -> pb.UsageRecorded:
    usage = common.TokenUsage(source=REPORTED, input_tokens=7, output_tokens=0)
    facts: dict[str, object] = {
        "meta": common.EventMeta(
            event_id="evt_1",
            tenant_id="ten_a",
            occurred_at=timestamp_to_proto(FakeClock().now() - timedelta(seconds=3)),
        ),
        "request_id": "req_1",
        "attempts": [pb.AttemptUsage(attempt=1, price_key=PRICE.price_key, price_version=PRICE.version, usage=usage)],
        "key_id": "key_1",
        "project_id": "prj_1",
    }
    return pb.UsageRecorded(**{**facts, **changes})  # type: ignore[arg-type]


def a_record(message: pb.UsageRecorded) -> Record:
    return Record(TOPIC, b"ten_a", message.SerializeToString())


def an_attempt(**changes: object) -> pb.UsageRecorded:
    attempt = a_message().attempts[0]
    facts = {"attempt": 1, "price_key": attempt.price_key, "price_version": attempt.price_version}
    return a_message(attempts=[pb.AttemptUsage(**{**facts, "usage": attempt.usage, **changes})])  # type: ignore[arg-type]


@pytest.fixture
def books() -> Books:
    return fake_books(FakeClock())


@pytest.fixture
def events(books: Books) -> UsageEvents:
    clock = FakeClock()
    prices = Prices(FakePriceBook(clock, [PRICE]), clock, timedelta(seconds=5))
    return UsageEvents(ledger=books.ledger, prices=prices, clock=clock)


async def test_records_are_settled(events: UsageEvents, books: Books) -> None:
    await books.reservations.hold(a_hold("ten_a", PRICE, 10, request_id="req_1"))
    await events.settle([a_record(a_message()), a_record(a_message(request_id="req_2"))])

    for request_id in ("req_1", "req_2"):
        (settlement,) = (await books.ledger.account("ten_a", request_id)).settlements
        assert (settlement.outcome, settlement.cost, settlement.event_id) == (Outcome.BILLED, NanoUsd(7), "evt_1")
    assert SETTLE_LAG_SECONDS._value.get() == 3


@pytest.mark.parametrize(
    "message",
    [
        a_message(meta=common.EventMeta(event_id="evt_1", tenant_id="*")),
        a_message(meta=common.EventMeta(event_id="evt_1", tenant_id="")),
        a_message(meta=common.EventMeta(event_id="", tenant_id="ten_a")),
        a_message(meta=common.EventMeta(event_id="evt\0", tenant_id="ten_a")),
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
        an_attempt(usage=common.TokenUsage(source=REPORTED, input_tokens=-1, output_tokens=1)),
        an_attempt(usage=common.TokenUsage(source=REPORTED, input_tokens=1, output_tokens=MAX_TOKENS + 1)),
        an_attempt(usage=common.TokenUsage(source=UNKNOWN, input_tokens=2**63 - 1)),
    ],
)
async def test_what_the_books_could_never_keep_is_undecodable_and_nothing_of_its_batch_is_written(
    events: UsageEvents, books: Books, message: pb.UsageRecorded
) -> None:
    await books.reservations.hold(a_hold("ten_a", PRICE, 10, request_id="req_good"))
    with pytest.raises(Undecodable):
        await events.settle([a_record(a_message(request_id="req_good")), a_record(message)])
    assert (await books.ledger.account("ten_a", "req_good")).settlements == ()


@pytest.mark.parametrize("value", [b"\xff", b"not protobuf", b"\x0a\xff\xff"])
async def test_bytes_that_are_no_message_are_undecodable(events: UsageEvents, value: bytes) -> None:
    with pytest.raises(Undecodable):
        await events.settle([Record(TOPIC, b"", value)])


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (common.TokenUsage(), Usage(Source.UNKNOWN)),
        (common.TokenUsage(source=REPORTED, input_tokens=0), Usage(Source.REPORTED, 0, None)),
        (
            common.TokenUsage(source=COUNTED, input_tokens=0, output_tokens=0),
            Usage(Source.COUNTED, 0, 0),
        ),
        (common.TokenUsage(source=99, input_tokens=1, output_tokens=1), Usage(Source.UNKNOWN, 1, 1)),  # type: ignore[arg-type]
    ],
)
def test_an_absent_count_stays_absent(usage: common.TokenUsage, read: Usage) -> None:
    assert from_proto_event(an_attempt(usage=usage)).attempts[0].usage == read


async def test_a_time_that_is_none_does_not_stop_a_settlement(events: UsageEvents, books: Books) -> None:
    message = a_message()
    message.meta.occurred_at.seconds = 2**60
    await events.settle([a_record(message)])
    assert (await books.ledger.account("ten_a", "req_1")).settlements
