"""A chat completion, from the request to its settlement."""

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from orchestrator.chat.model import Started as ChatStarted
from orchestrator.routing.model import ALL_TENANTS, RouteCandidate, RouteEntry, Task
from orchestrator.usage.model import AttemptUsage
from orchestrator.workers.model import Chunk, Started
from values.money import NanoUsd, Price
from values.usage import UNKNOWN_USAGE, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import SMOLLM2, FakeMeteringClient, FakeWorkerClient, route_table
from services.orchestrator.tests.harness import (
    HELLO,
    LIMITS,
    Harness,
    finished_of,
    payloads_of,
    reported,
    started_of,
    worker_finished,
)

ANSWER = (Started(0), Chunk([b'{"a":1}']), Chunk([b'{"a":2}', b'{"a":3}']))

TWO = route_table(RouteEntry(ALL_TENANTS, "smollm2", Task.CHAT, (SMOLLM2, RouteCandidate("dear", "model", 512))))


async def test_an_answer_starts_comes_in_order_and_finishes_with_its_cost() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(120, 48), usage_payload=b'{"usage":{}}')))

    events = await harness.generate()

    assert isinstance(events[0], ChatStarted)
    assert payloads_of(events) == [b'{"a":1}', b'{"a":2}', b'{"a":3}']
    finished = finished_of(events)
    assert finished.cost == 120 * 50 + 48 * 200
    assert finished.usage == reported(120, 48)
    assert finished.usage_payload == b'{"usage":{}}'
    assert finished.error is None


async def test_usage_is_recorded_before_finished_is_sent() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(120, 48))))
    async with aclosing(harness.completions.generate(harness.request())) as events:
        recorded = [len(harness.outbox.written) async for _ in events]

    assert recorded[-1] == 1


async def test_the_event_names_the_caller_and_the_reserved_price() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(120, 48))))

    await harness.generate(request_id="req_7")

    usage = await harness.usage
    assert usage.event_id.startswith("evt_")
    assert (usage.tenant_id, usage.project_id, usage.key_id) == ("ten_test", "prj_test", "key_test")
    assert usage.request_id == "req_7"
    key = "local/smollm2-135m-instruct"
    price = Price(key, f"prc_{key}", NanoUsd(50_000_000), NanoUsd(200_000_000))
    assert usage.attempts == (AttemptUsage(1, price, reported(120, 48)),)


async def test_both_attempts_of_a_fallback_are_in_one_event_and_one_cost() -> None:
    end = worker_finished(reported(100, 3), reported(90, 50))
    harness = Harness(FakeWorkerClient(Started(1), Chunk([b"{}"]), end), routes=TWO)

    events = await harness.generate()

    usage = await harness.usage
    assert [(one.number, one.price.key) for one in usage.attempts] == [
        (1, "local/smollm2-135m-instruct"),
        (2, "dear/model"),
    ]
    assert finished_of(events).cost == (100 * 50 + 3 * 200) + (90 * 2_500 + 50 * 10_000)
    assert finished_of(events).usage == reported(190, 53)


async def test_unknown_usage_is_recorded_as_unknown_and_costs_the_tenant_nothing() -> None:
    end = worker_finished(
        UNKNOWN_USAGE, TokenUsage(UsageSource.REPORTED, 5, None), reported(100, 10), candidates=(0, 0, 0)
    )
    harness = Harness(FakeWorkerClient(*ANSWER, end))

    events = await harness.generate()

    usage = await harness.usage
    assert [one.usage for one in usage.attempts] == [attempt.usage for attempt in end.attempts]
    assert finished_of(events).cost == 100 * 50 + 10 * 200
    assert finished_of(events).usage.source is UsageSource.UNKNOWN


async def test_a_cost_above_what_was_held_is_capped() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(10**9, 10**9))))

    events = await harness.generate()

    bounds, _ = harness.metering.reserved["req_1"]
    held = -(-(bounds[0].input_tokens * 50_000_000 + bounds[0].output_tokens * 200_000_000) // 1_000_000)
    assert finished_of(events).cost == held


async def test_started_says_that_the_soft_limit_has_passed() -> None:
    harness = Harness(
        FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))), FakeMeteringClient(soft_limit_passed=True)
    )

    assert started_of(await harness.generate()).soft_limit_passed


async def test_started_says_which_fields_were_dropped() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))))

    events = await harness.generate({**HELLO, "future": 1})

    assert started_of(events).warnings == ("The field future was dropped: the model's API does not have it.",)
    assert "future" not in harness.sent()


async def test_an_answer_without_a_byte_still_starts_and_finishes() -> None:
    harness = Harness(FakeWorkerClient(Started(0), worker_finished(reported(9, 0))))

    assert [type(event).__name__ for event in await harness.generate()] == ["Started", "Finished"]


async def test_the_worker_gets_the_remaining_time_and_the_timeouts_of_an_attempt() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))))
    harness.metering.on_reserve = lambda: harness.clock.advance(timedelta(seconds=2))

    await harness.generate(timeout=timedelta(seconds=40))

    plan = harness.worker.plans[0]
    assert plan.deadline == timedelta(seconds=38)
    assert (plan.first_byte_timeout, plan.idle_timeout) == (LIMITS.first_byte_timeout, LIMITS.idle_timeout)


async def test_an_answer_that_is_not_streamed_may_take_long_to_its_first_byte() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))))

    await harness.generate(stream=False)

    assert harness.worker.plans[0].first_byte_timeout == LIMITS.non_streamed_timeout > LIMITS.first_byte_timeout


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (None, LIMITS.default_deadline),
        (timedelta(0), LIMITS.default_deadline),
        (timedelta(days=2), LIMITS.max_deadline),
    ],
)
async def test_a_missing_or_too_long_deadline_is_replaced(requested: timedelta | None, expected: timedelta) -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))))

    await harness.generate(timeout=requested)

    assert harness.worker.plans[0].deadline == expected


async def test_a_finished_request_leaves_no_task_behind() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))))

    await harness.generate()
    await asyncio.sleep(0)

    assert (len(harness.tasks), harness.tasks.detached) == (0, 0)
    assert not harness.crashes


async def test_finished_counts_even_when_the_call_fails_after_it() -> None:
    harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(10, 2))))
    harness.worker.end_error = Unavailable("it is down")

    events = await harness.generate()

    assert finished_of(events).error is None
    assert (await harness.usage).attempts[0].usage == reported(10, 2)
