"""A chat completion, from the request to its settlement."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.errors import ArgosyError, DeadlineExceeded, InvalidRequest, Kind, RemoteFailure, Unavailable
from orchestrator.domain.errors import ModelNotFound, RequestTooLarge
from orchestrator.domain.generate import Begun
from orchestrator.domain.ports import Answering, Failure, Payloads
from orchestrator.domain.routes import EVERYBODY, RouteCandidate, Task
from orchestrator.domain.usage import UNKNOWN, AttemptUsage, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import SMOLLM2, FakeMetering, FakeRoutes, FakeWorker, a_table
from services.orchestrator.tests.world import (
    HELLO,
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


class TestRefusedBeforeAnythingIsSpent:
    async def test_an_unknown_model(self):
        world = World()

        with pytest.raises(ModelNotFound) as refused:
            await world.generate(model="gpt-17")

        assert refused.value.param == "model"
        assert not world.metering.reserved

    async def test_a_model_for_another_task(self):
        with pytest.raises(ModelNotFound):
            await World().generate(model="all-minilm-l6-v2")

    async def test_an_unpriced_model_is_refused_before_the_worker_is_called(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))), FakeMetering(prices={}))

        with pytest.raises(RemoteFailure) as refused:
            await world.generate()

        assert refused.value.reason == "UNPRICED_MODEL"
        assert not world.worker.plans
        await world.tasks.idle()
        assert not world.log.recorded

    async def test_a_spent_budget(self):
        world = World(metering=FakeMetering(free=10))

        with pytest.raises(RemoteFailure) as refused:
            await world.generate()

        assert (refused.value.kind, refused.value.reason) == (Kind.EXHAUSTED, "INSUFFICIENT_QUOTA")
        assert not world.worker.plans

    async def test_more_than_a_worker_can_be_sent(self):
        world = World()
        body = {**HELLO, "messages": [{"role": "user", "content": "x" * POLICY.plan_bytes}]}

        with pytest.raises(RequestTooLarge):
            await world.generate(body)

        assert not world.metering.reserved

    async def test_a_request_id_that_cannot_be_a_key(self):
        with pytest.raises(InvalidRequest) as refused:
            await World().generate(request_id="req\x00")

        assert refused.value.param == "request_id"

    async def test_a_request_when_too_many_are_at_hand(self):
        world = World(most_tasks=0)

        with pytest.raises(Unavailable):
            await world.generate()

        assert not world.metering.reserved


class TestReservation:
    async def test_every_candidate_is_bounded_and_the_lease_outlasts_the_deadline(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))), routes=FakeRoutes(TWO))

        await world.generate({**HELLO, "n": 3}, time=timedelta(seconds=40))

        bounds, lease = world.metering.reserved["req_1"]
        assert [(bound.price_key, bound.output_tokens) for bound in bounds] == [
            ("local/smollm2-135m-instruct", 3 * 1024),
            ("dear/model", 3 * 512),
        ]
        assert all(bound.input_tokens >= len(b"Who sails an argosy?") for bound in bounds)
        assert lease == POLICY.lease + timedelta(seconds=40)

    @pytest.mark.parametrize("silence", [Unavailable("metering does not answer"), DeadlineExceeded("too late")])
    async def test_metering_that_says_nothing_is_told_to_release(self, silence):
        world = World(metering=FakeMetering(failure=silence))

        with pytest.raises(type(silence)):
            await world.generate()

        assert (await world.usage).attempts == ()
        assert not world.worker.plans

    async def test_a_client_who_leaves_while_money_is_set_aside_gets_it_back(self):
        world = World(metering=FakeMetering(failure=asyncio.CancelledError()))

        with pytest.raises(asyncio.CancelledError):
            await world.generate()

        assert (await world.usage).attempts == ()

    async def test_a_request_that_ran_out_of_time_while_reserving_is_released_and_not_sent(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))))
        world.metering.on_reserve = lambda: world.clock.advance(timedelta(seconds=6))

        with pytest.raises(DeadlineExceeded):
            await world.generate(time=timedelta(seconds=5))

        assert (await world.usage).attempts == ()
        assert not world.worker.plans


class TestFailure:
    async def test_before_the_first_byte_is_an_error_with_the_workers_reason(self):
        failure = Failure("UPSTREAM_RATE_LIMITED", "slow down")
        world = World(FakeWorker(an_account(reported(0, 0), failure=failure)))

        with pytest.raises(RemoteFailure) as failed:
            await world.generate()

        assert (failed.value.kind, failed.value.reason) == (Kind.THROTTLED, "UPSTREAM_RATE_LIMITED")
        assert failed.value.message == "slow down"
        assert (await world.usage).attempts[0].usage == reported(0, 0)

    @pytest.mark.parametrize(
        ("reason", "kind"),
        [
            ("UPSTREAM_REFUSED", Kind.INVALID),
            ("UPSTREAM_TIMED_OUT", Kind.TIMED_OUT),
            ("UPSTREAM_FAILED", Kind.UPSTREAM),
            ("UPSTREAM_SOMETHING_NEW", Kind.UPSTREAM),
        ],
    )
    async def test_has_the_kind_of_its_reason(self, reason, kind):
        world = World(FakeWorker(an_account(UNKNOWN, failure=Failure(reason, "no"))))

        with pytest.raises(RemoteFailure) as failed:
            await world.generate()

        assert failed.value.kind is kind

    async def test_after_the_first_byte_is_told_at_the_end_with_the_bill(self):
        failure = Failure("UPSTREAM_CUT", "it broke off")
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2), failure=failure)))

        steps = await world.generate()

        assert payloads_of(steps)
        assert done_of(steps).failure == failure
        assert done_of(steps).bill.cost == 10 * 50 + 2 * 200

    async def test_of_a_worker_that_nobody_can_reach_releases_the_money(self):
        world = World(FakeWorker())
        world.worker.unreachable = Unavailable("the worker does not answer")

        with pytest.raises(Unavailable):
            await world.generate()

        assert (await world.usage).attempts == ()

    async def test_of_a_worker_that_refuses_the_plan_releases_the_money(self):
        refusal = RemoteFailure(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "it is draining")
        world = World(FakeWorker(refusal))

        with pytest.raises(RemoteFailure):
            await world.generate()

        assert (await world.usage).attempts == ()

    @pytest.mark.parametrize(
        "end", [Unavailable("it is gone"), DeadlineExceeded("silent"), RemoteFailure(Kind.INTERNAL, "INTERNAL", "bug")]
    )
    async def test_of_a_worker_that_dies_before_the_first_byte_leaves_a_call_of_unknown_usage(self, end):
        world = World(FakeWorker(end))

        with pytest.raises(ArgosyError):
            await world.generate()

        (attempt,) = (await world.usage).attempts
        assert attempt.usage == UNKNOWN

    async def test_of_a_worker_that_dies_mid_answer_is_told_and_blames_the_candidate_that_answered(self):
        world = World(FakeWorker(Answering(1), Payloads([b"{}"]), Unavailable("it is gone")), routes=FakeRoutes(TWO))

        steps = await world.generate()

        failure = done_of(steps).failure
        assert failure is not None
        assert failure.reason == "SERVICE_UNAVAILABLE"
        (attempt,) = (await world.usage).attempts
        assert (attempt.price_key, attempt.usage) == ("dear/model", UNKNOWN)
        assert done_of(steps).bill.cost == 0

    async def test_that_is_our_bug_still_settles_the_call(self):
        world = World(FakeWorker(Answering(0), RuntimeError("a bug")))

        with pytest.raises(RuntimeError):
            await world.generate()

        (attempt,) = (await world.usage).attempts
        assert attempt.usage == UNKNOWN
        assert world.crashes

    async def test_of_an_account_that_names_no_candidate_of_the_plan_still_settles_the_call(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(1, 1), candidates=(9,))))

        failure = done_of(await world.generate()).failure

        assert failure is not None
        assert failure.reason == "INTERNAL"
        (attempt,) = (await world.usage).attempts
        assert attempt.usage == UNKNOWN


class TestClientGone:
    async def test_stops_the_worker_and_bills_what_was_used(self):
        stopped = an_account(TokenUsage(UsageSource.COUNTED, 50, 2))
        world = World(FakeWorker(Answering(0), Payloads([b"{}"]), asyncio.Event(), stopped=stopped))
        steps = world.generations.generate(world.request())
        await anext(steps)
        await anext(steps)

        await steps.aclose()

        assert world.tasks.left == 1
        (attempt,) = (await world.usage).attempts
        assert attempt.usage == TokenUsage(UsageSource.COUNTED, 50, 2)
        assert world.worker.runs[0].was_stopped
        assert world.tasks.left == 0

    async def test_while_waiting_for_the_first_byte_does_the_same(self):
        stopped = an_account(UNKNOWN)
        world = World(FakeWorker(asyncio.Event(), stopped=stopped))
        listening = asyncio.ensure_future(world.generate())
        while not world.worker.runs:
            await asyncio.sleep(0)

        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening

        assert (await world.usage).attempts[0].usage == UNKNOWN
        assert world.worker.runs[0].was_stopped

    async def test_frees_a_provider_that_waits_for_a_slow_client(self):
        flood = [Payloads([b"x" * POLICY.waiting_bytes]) for _ in range(3)]
        world = World(FakeWorker(*flood, stopped=an_account(reported(5, 5))))
        steps = world.generations.generate(world.request())
        await anext(steps)

        await steps.aclose()

        assert (await world.usage).attempts[0].usage == reported(5, 5)

    async def test_a_worker_that_gives_no_account_in_time_leaves_a_call_of_unknown_usage(self):
        world = World(FakeWorker(Answering(0), Payloads([b"{}"]), asyncio.Event(), stopped=None))
        world = World(world.worker, policy=replace(POLICY, hang_up=timedelta(0)))
        steps = world.generations.generate(world.request())
        await anext(steps)

        await steps.aclose()

        (attempt,) = (await world.usage).attempts
        assert attempt.usage == UNKNOWN
        assert world.worker.runs[0].left

    async def test_at_the_very_end_changes_nothing(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
        steps = world.generations.generate(world.request())
        async for step in steps:
            if isinstance(step, Payloads):
                break

        await steps.aclose()

        assert (await world.usage).attempts[0].usage == reported(10, 2)


class TestSlowClient:
    async def test_gets_what_waits_together(self):
        world = World(FakeWorker(*(Payloads([b"%d" % n]) for n in range(5)), an_account(reported(1, 1))))

        steps = await world.generate()

        assert payloads_of(steps) == [b"0", b"1", b"2", b"3", b"4"]
        assert len(steps) < 2 + 5

    async def test_makes_the_provider_wait(self):
        read: list[int] = []

        def script():
            for n in range(100):
                read.append(n)
                yield Payloads([b"x" * 400])
            yield an_account(reported(1, 1))

        world = World(FakeWorker())
        world.worker.script = script()  # type: ignore[assignment]
        steps = world.generations.generate(world.request())

        await anext(steps)
        for _ in range(50):
            await asyncio.sleep(0)

        # Those that were taken, and as many waiting: three reach the limit.
        assert len(read) == 6
        rest = [step async for step in steps]
        assert len(payloads_of(rest)) == 100


class TestRecordingWhilePostgresIsAway:
    async def test_the_answer_is_not_kept_back_and_the_event_is_written_later(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
        world.log.failure = Unavailable("postgres does not answer")

        steps = await world.generate()

        assert done_of(steps).bill.cost == 10 * 50 + 2 * 200
        assert not world.log.recorded
        world.log.failure = None
        assert (await world.usage).attempts[0].usage == reported(10, 2)
        assert world.pauses

    async def test_a_slow_write_keeps_the_end_for_so_long_only(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))), patience=timedelta(milliseconds=1))
        world.log.gate.clear()

        steps = await world.generate()

        assert done_of(steps).failure is None
        assert not world.log.recorded
        world.log.gate.set()
        assert (await world.usage).attempts[0].usage == reported(10, 2)

    async def test_a_write_that_happened_without_being_heard_of_is_not_a_second_event(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
        lost = Unavailable("the answer to the commit was lost")
        record = world.log.record

        async def record_and_lose_the_answer(usage):
            await record(usage)
            if world.log.tries == 1:
                raise lost

        world.log.record = record_and_lose_the_answer  # type: ignore[method-assign]
        await world.generate()

        assert (await world.usage).attempts
        assert world.log.tries == 2

    async def test_it_tries_again_for_as_long_as_it_takes_with_growing_pauses(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
        world.log.failure = Unavailable("postgres does not answer")

        async def until_the_twentieth() -> None:
            if len(world.pauses) == 20:
                world.log.failure = None

        world.on_pause = until_the_twentieth
        await world.generate()

        assert (await world.usage).attempts
        assert len(world.pauses) == 20
        assert max(world.pauses) <= 10

    async def test_too_much_that_waits_admits_no_more_requests(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))), most_tasks=1)
        world.log.failure = Unavailable("postgres does not answer")
        gate = asyncio.Event()
        world.on_pause = gate.wait  # type: ignore[assignment]
        await world.generate()

        with pytest.raises(Unavailable):
            await world.generate(request_id="req_2")

        assert "req_2" not in world.metering.reserved
        world.log.failure = None
        gate.set()
        await world.tasks.idle()


async def test_the_worker_gets_the_time_that_is_left_and_the_limits_of_an_attempt():
    world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))))
    world.metering.on_reserve = lambda: world.clock.advance(timedelta(seconds=2))

    await world.generate(time=timedelta(seconds=40))

    plan = world.worker.plans[0]
    assert plan.deadline == timedelta(seconds=38)
    assert (plan.first_byte, plan.idle) == (POLICY.first_byte, POLICY.idle)


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
