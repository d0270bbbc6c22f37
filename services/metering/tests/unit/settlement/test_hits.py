"""Records of cached answers, many hits each."""

from datetime import timedelta

import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import events_pb2
from chassis.kafka import Record, Undecodable
from chassis.testing import FakeClock
from metering.prices.model import PriceCache
from metering.reservations.model import RequestNotFound
from metering.settlement.consumer import HITS_TOPIC, UsageConsumer
from values.protos import timestamp_to_proto
from values.usage import CacheOutcome

from services.metering.tests.examples import a_price, metric
from services.metering.tests.fakes import FakePriceBook, Stores, fake_stores

PRICE = a_price()
META = common_pb2.EventMeta(
    event_id="evt_1", tenant_id="ten_a", occurred_at=timestamp_to_proto(FakeClock().now() - timedelta(seconds=3))
)


def an_answer(tokens: int = 7, version: str = f"{PRICE.price.version}~100", **cache: object) -> events_pb2.HitAnswer:
    usage = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=tokens, output_tokens=1)
    attempt = events_pb2.AttemptUsage(attempt=1, price_key=PRICE.price.key, price_version=version, usage=usage)
    use = {"outcome": common_pb2.CACHE_OUTCOME_HIT, "model": "smollm2", "attempt": 1, **cache}
    return events_pb2.HitAnswer(attempt=attempt, cache=events_pb2.CacheUse(**use))  # type: ignore[arg-type]


def a_hit(request_id: str, answer: int = 0, **changes: str) -> events_pb2.Hit:
    return events_pb2.Hit(request_id=request_id, answer=answer, **{"key_id": "key_1", "project_id": "prj_1", **changes})


def a_record(
    *hits: events_pb2.Hit, answers: tuple[events_pb2.HitAnswer, ...] = (), meta: common_pb2.EventMeta = META
) -> Record:
    message = events_pb2.HitsRecorded(meta=meta, answers=answers or (an_answer(),), hits=hits)
    return Record(HITS_TOPIC, b"ten_a", message.SerializeToString())


@pytest.fixture
def stores() -> Stores:
    return fake_stores(FakeClock())


@pytest.fixture
def events(stores: Stores) -> UsageConsumer:
    clock = FakeClock()
    prices = PriceCache(FakePriceBook(clock, [PRICE]), clock, timedelta(seconds=5))
    return UsageConsumer(settlements=stores.settlements, prices=prices, clock=clock)


async def test_each_hit_of_each_record_is_settled_with_its_own_answer(events: UsageConsumer, stores: Stores) -> None:
    answers = (an_answer(7), an_answer(20, outcome=common_pb2.CACHE_OUTCOME_SEMANTIC))
    other = common_pb2.EventMeta(event_id="evt_2", tenant_id="ten_b")
    first = a_record(a_hit("req_1", 1), a_hit("req_2", 0), answers=answers)
    await events.settle_hits([first, a_record(a_hit("req_1"), answers=(an_answer(30),), meta=other)])

    found = {}
    for tenant_id, request_id in (("ten_a", "req_1"), ("ten_a", "req_2"), ("ten_b", "req_1")):
        (one,) = (await stores.settlements.statement(tenant_id, request_id)).settlements
        found[tenant_id, request_id] = (one.usage.input_tokens, one.cost, one.saved, one.cache, one.event_id)
    assert found == {
        ("ten_a", "req_1"): (20, 0, 22, CacheOutcome.SEMANTIC, "evt_1"),
        ("ten_a", "req_2"): (7, 0, 9, CacheOutcome.HIT, "evt_1"),
        ("ten_b", "req_1"): (30, 0, 32, CacheOutcome.HIT, "evt_2"),
    }
    assert metric("settle_lag_seconds") == 3


async def test_a_record_without_hits_is_nothing(events: UsageConsumer) -> None:
    await events.settle_hits([a_record()])


@pytest.mark.parametrize(
    "record",
    [
        a_record(a_hit("req_bad"), meta=common_pb2.EventMeta(event_id="evt_1", tenant_id="*")),
        a_record(a_hit("req_bad"), meta=common_pb2.EventMeta(event_id="", tenant_id="ten_a")),
        a_record(a_hit("")),
        a_record(a_hit("req_\0")),
        a_record(a_hit("r" * 1000)),
        a_record(a_hit("req_bad", key_id="\0")),
        a_record(a_hit("req_bad", project_id="p" * 1000)),
        a_record(a_hit("req_bad", 1)),
        a_record(a_hit("req_bad", -1)),
        a_record(a_hit("req_bad"), answers=(an_answer(version="prc_none~100"),)),
        a_record(a_hit("req_bad"), answers=(an_answer(-1),)),
        a_record(a_hit("req_bad"), answers=(an_answer(model="\0"),)),
        Record(HITS_TOPIC, b"ten_a", b"\xff"),
    ],
)
async def test_a_record_that_can_never_be_settled_is_undecodable_and_nothing_of_its_batch_is_written(
    events: UsageConsumer, stores: Stores, record: Record
) -> None:
    with pytest.raises(Undecodable):
        await events.settle_hits([a_record(a_hit("req_good")), record])
    with pytest.raises(RequestNotFound):
        await stores.settlements.statement("ten_a", "req_good")
