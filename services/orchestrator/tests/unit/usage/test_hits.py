"""Cached answers that cost nothing are recorded together, each once, however long Postgres is unavailable."""

import asyncio
from collections.abc import Sequence

import pytest
from argosy.metering.v1.events_pb2 import HitsRecorded
from chassis.errors import Unavailable
from chassis.kafka.outbox import MAX_VALUE_BYTES
from google.protobuf.timestamp_pb2 import Timestamp
from orchestrator.background_tasks import BackgroundTasks
from orchestrator.usage import hits as recording
from orchestrator.usage.hits import HitRecorder
from orchestrator.usage.model import AttemptUsage, CacheUse, Hits, RequestUsage
from orchestrator.usage.outbox import hits_to_events
from values.money import ZERO, Price
from values.usage import CacheOutcome, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import FakeUsageOutbox

PRICE = Price("local/tiny", "prc_1~100", ZERO, ZERO)


def a_hit(number: int, tenant_id: str = "ten_1", tokens: int = 12) -> RequestUsage:
    attempt = AttemptUsage(1, PRICE, TokenUsage(UsageSource.REPORTED, tokens, 3))
    use = CacheUse(CacheOutcome.HIT, "smollm2", 1)
    return RequestUsage("", tenant_id, "prj_1", "key_1", f"req_{number}", (attempt,), use)


class Recorded:
    """A recorder over an outbox in memory, whose pauses end when `go` is set."""

    def __init__(self) -> None:
        self.outbox = FakeUsageOutbox()
        self.tasks = BackgroundTasks(10, lambda _: None)
        self.go = asyncio.Event()
        self.pauses: list[float] = []
        self.recorder = HitRecorder(self.outbox, self.tasks, self._pause)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)
        await self.go.wait()

    @property
    def requests(self) -> list[str]:
        return [usage.request_id for usage in self.outbox.written]


async def test_hits_of_a_time_are_written_together_a_group_for_each_tenant() -> None:
    recorded = Recorded()
    for number in range(6):
        recorded.recorder.add(a_hit(number, f"ten_{number % 2}"))
    assert not recorded.requests
    recorded.go.set()
    await recorded.tasks.wait_idle()

    assert recorded.outbox.tries == 1
    assert sorted(recorded.requests) == [f"req_{number}" for number in range(6)]
    assert len({event_id.partition("/")[0] for _, event_id in recorded.outbox.events}) == 2


async def test_a_process_that_ends_in_order_waits_until_all_is_written() -> None:
    recorded = Recorded()
    recorded.recorder.add(a_hit(1))
    ending = asyncio.create_task(recorded.tasks.wait_idle())
    await asyncio.sleep(0)
    assert not ending.done()
    recorded.recorder.add(a_hit(2))
    recorded.go.set()
    await ending
    assert recorded.requests == ["req_1", "req_2"]


async def test_a_hit_that_comes_while_others_are_written_is_written_after_them() -> None:
    recorded = Recorded()
    recorded.go.set()
    recorded.outbox.gate.clear()
    recorded.recorder.add(a_hit(1))
    while not recorded.outbox.tries:
        await asyncio.sleep(0)
    recorded.recorder.add(a_hit(2))
    recorded.outbox.gate.set()
    await recorded.tasks.wait_idle()
    assert (recorded.requests, recorded.outbox.tries) == (["req_1", "req_2"], 2)


async def test_a_write_whose_reply_was_lost_is_repeated_and_records_nothing_twice() -> None:
    recorded = Recorded()
    write = recorded.outbox.write_hits

    async def write_and_lose_the_reply(together: Sequence[Hits]) -> None:
        await write(together)
        if recorded.outbox.tries < 3:
            raise Unavailable("the reply to the commit was lost")

    recorded.outbox.write_hits = write_and_lose_the_reply  # type: ignore[method-assign]
    recorded.go.set()
    for number in range(3):
        recorded.recorder.add(a_hit(number))
    await recorded.tasks.wait_idle()

    assert recorded.requests == ["req_0", "req_1", "req_2"]
    assert recorded.outbox.tries == len(recorded.pauses) == 3


async def test_no_cached_answer_is_given_while_too_many_hits_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_WAITING", 3)
    recorded = Recorded()
    recorded.outbox.failure = Unavailable("postgres does not answer")
    for number in range(2):
        recorded.recorder.add(a_hit(number))
    recorded.go.set()
    while recorded.outbox.tries < 2:
        await asyncio.sleep(0)
    recorded.recorder.add(a_hit(2))
    with pytest.raises(Unavailable, match="recorded"):
        recorded.recorder.require_room()
    recorded.outbox.failure = None
    await recorded.tasks.wait_idle()
    recorded.recorder.add(a_hit(3))
    await recorded.tasks.wait_idle()
    assert recorded.requests == ["req_0", "req_1", "req_2", "req_3"]


def test_an_answer_that_many_requests_got_is_in_its_event_once() -> None:
    hits = Hits("evt_1", "ten_1", (a_hit(1), a_hit(2, tokens=7), a_hit(3)))
    (event,) = hits_to_events(hits, Timestamp(seconds=5))
    message = HitsRecorded.FromString(event.value)

    assert (event.tenant_id, event.id, event.topic) == ("ten_1", "evt_1", "argosy.metering.hits-recorded.v1")
    assert [(hit.request_id, hit.answer) for hit in message.hits] == [("req_1", 0), ("req_2", 1), ("req_3", 0)]
    assert [answer.attempt.usage.input_tokens for answer in message.answers] == [12, 7]
    assert {(hit.project_id, hit.key_id) for hit in message.hits} == {("prj_1", "key_1")}
    assert message.answers[0].cache.model == "smollm2"
    assert message.meta.occurred_at.seconds == 5


def test_hits_that_are_too_large_for_a_record_are_several_with_the_same_ids_each_time() -> None:
    many = tuple(a_hit(0)._replace(request_id=f"{number:0>1000}") for number in range(3_000))
    first, second = (hits_to_events(Hits("evt_1", "ten_1", many), Timestamp()) for _ in range(2))

    assert first == second
    assert len({event.id for event in first}) == len(first) > 2
    assert max(len(event.value) for event in first) <= MAX_VALUE_BYTES
    requests = [hit.request_id for event in first for hit in HitsRecorded.FromString(event.value).hits]
    assert requests == [hit.request_id for hit in many]
