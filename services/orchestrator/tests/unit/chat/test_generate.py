"""A chat completion, from the request to its settlement."""

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from orchestrator.domain.generate import Begun
from orchestrator.domain.ports import Answering, Payloads
from orchestrator.domain.routes import EVERYBODY, RouteCandidate, Task
from orchestrator.domain.usage import UNKNOWN, AttemptUsage, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import SMOLLM2, FakeMetering, FakeRoutes, FakeWorker, a_table
from services.orchestrator.tests.world import (
    POLICY,
    World,
    an_account,
    begun_of,
    done_of,
    payloads_of,
    reported,
)

ANSWER = (Answering(0), Payloads([b'{"a":1}']), Payloads([b'{"a":2}', b'{"a":3}']))

TWO = a_table((EVERYBODY, "smollm2", Task.CHAT, [SMOLLM2, RouteCandidate("dear", "model", 512)]))


async def test_an_answer_begins_comes_in_order_and_ends_with_its_bill():
    world = World(FakeWorker(*ANSWER, an_account(reported(120, 48), usage_payload=b'{"usage":{}}')))

    steps = await world.generate()

    assert isinstance(steps[0], Begun)
    assert payloads_of(steps) == [b'{"a":1}', b'{"a":2}', b'{"a":3}']
    done = done_of(steps)
    assert done.bill.cost == 120 * 50 + 48 * 200
    assert done.bill.usage == reported(120, 48)
    assert done.usage_payload == b'{"usage":{}}'
    assert done.failure is None


async def test_usage_is_recorded_before_the_client_hears_that_it_is_over():
    world = World(FakeWorker(*ANSWER, an_account(reported(120, 48))))
    async with aclosing(world.generations.generate(world.request())) as steps:
        recorded = [len(world.log.recorded) async for _ in steps]

    assert recorded[-1] == 1


async def test_the_event_names_who_asked_and_the_price_that_was_agreed():
    world = World(FakeWorker(*ANSWER, an_account(reported(120, 48))))

    await world.generate(request_id="req_7")

    usage = await world.usage
    assert usage.event_id.startswith("evt_")
    assert (usage.tenant_id, usage.project_id, usage.key_id) == ("ten_test", "prj_test", "key_test")
    assert usage.request_id == "req_7"
    key = "local/smollm2-135m-instruct"
    assert usage.attempts == (AttemptUsage(1, key, f"prc_{key}", reported(120, 48)),)


async def test_both_attempts_of_a_fallback_are_in_one_event_and_on_one_bill():
    account = an_account(reported(100, 3), reported(90, 50))
    world = World(FakeWorker(Answering(1), Payloads([b"{}"]), account), routes=FakeRoutes(TWO))

    steps = await world.generate()

    usage = await world.usage
    assert [(one.number, one.price_key) for one in usage.attempts] == [
        (1, "local/smollm2-135m-instruct"),
        (2, "dear/model"),
    ]
    assert done_of(steps).bill.cost == (100 * 50 + 3 * 200) + (90 * 2_500 + 50 * 10_000)
    assert done_of(steps).bill.usage == reported(190, 53)


async def test_usage_that_nobody_knows_is_recorded_as_unknown_and_costs_the_tenant_nothing():
    account = an_account(UNKNOWN, TokenUsage(UsageSource.REPORTED, 5, None), reported(100, 10), candidates=(0, 0, 0))
    world = World(FakeWorker(*ANSWER, account))

    steps = await world.generate()

    usage = await world.usage
    assert [one.usage for one in usage.attempts] == [attempt.usage for attempt in account.attempts]
    assert done_of(steps).bill.cost == 100 * 50 + 10 * 200
    assert done_of(steps).bill.usage.source is UsageSource.UNKNOWN


async def test_a_bill_above_what_was_held_is_cut_to_it():
    world = World(FakeWorker(*ANSWER, an_account(reported(10**9, 10**9))))

    steps = await world.generate()

    bounds, _ = world.metering.reserved["req_1"]
    held = -(-(bounds[0].input_tokens * 50_000_000 + bounds[0].output_tokens * 200_000_000) // 1_000_000)
    assert done_of(steps).bill.cost == held


async def test_the_soft_limit_is_told_with_the_beginning():
    world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))), FakeMetering(soft_limit_passed=True))

    assert begun_of(await world.generate()).soft_limit_passed


async def test_an_answer_without_a_byte_still_begins_and_ends():
    world = World(FakeWorker(Answering(0), an_account(reported(9, 0))))

    assert [type(step).__name__ for step in await world.generate()] == ["Begun", "Done"]


async def test_the_worker_gets_the_time_that_is_left_and_the_limits_of_an_attempt():
    world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))))
    world.metering.on_reserve = lambda: world.clock.advance(timedelta(seconds=2))

    await world.generate(time=timedelta(seconds=40))

    plan = world.worker.plans[0]
    assert plan.deadline == timedelta(seconds=38)
    assert (plan.first_byte, plan.idle) == (POLICY.first_byte, POLICY.idle)


async def test_an_answer_that_is_not_streamed_may_take_long_to_its_first_byte():
    world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))))

    await world.generate(stream=False)

    assert world.worker.plans[0].first_byte == POLICY.whole_answer > POLICY.first_byte


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, POLICY.default_deadline),
        (timedelta(0), POLICY.default_deadline),
        (timedelta(days=2), POLICY.longest_deadline),
    ],
)
async def test_a_request_without_a_deadline_or_with_too_long_a_one_gets_ours(asked, given):
    world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))))

    await world.generate(time=asked)

    assert world.worker.plans[0].deadline == given


async def test_nothing_of_a_finished_request_stays_behind():
    world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))))

    await world.generate()
    await asyncio.sleep(0)

    assert (len(world.tasks), world.tasks.left) == (0, 0)
    assert not world.crashes


async def test_an_account_counts_even_when_the_call_does_not_end_well_after_it():
    world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
    world.worker.end = Unavailable("it is gone")

    steps = await world.generate()

    assert done_of(steps).failure is None
    assert (await world.usage).attempts[0].usage == reported(10, 2)
