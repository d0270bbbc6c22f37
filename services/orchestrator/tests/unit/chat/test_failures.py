"""Requests that are refused, and answers that fail: what is owed and what is released."""

import asyncio
from datetime import timedelta

import pytest
from chassis.errors import ArgosyError, DeadlineExceeded, InvalidRequest, Kind, RemoteError, Unavailable
from orchestrator.domain.errors import ModelNotFound, RequestTooLarge
from orchestrator.domain.ports import Answering, Failure, Payloads
from orchestrator.domain.routes import EVERYBODY, RouteCandidate, Task
from orchestrator.domain.usage import UNKNOWN

from services.orchestrator.tests.fakes import SMOLLM2, FakeMetering, FakeRoutes, FakeWorker, a_table
from services.orchestrator.tests.world import (
    HELLO,
    POLICY,
    World,
    an_account,
    done_of,
    payloads_of,
    reported,
)

ANSWER = (Answering(0), Payloads([b'{"a":1}']), Payloads([b'{"a":2}', b'{"a":3}']))

TWO = a_table((EVERYBODY, "smollm2", Task.CHAT, [SMOLLM2, RouteCandidate("dear", "model", 512)]))


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

        with pytest.raises(RemoteError) as refused:
            await world.generate()

        assert refused.value.reason == "UNPRICED_MODEL"
        assert not world.worker.plans
        await world.tasks.idle()
        assert not world.log.recorded

    async def test_a_spent_budget(self):
        world = World(metering=FakeMetering(free=10))

        with pytest.raises(RemoteError) as refused:
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

    @pytest.mark.parametrize("door", ["generate", "embed"])
    async def test_a_request_while_too_many_are_being_prepared(self, door):
        world = World(FakeWorker(*ANSWER, an_account(reported(1, 1))), most_tasks=1)
        world.metering.gate = asyncio.Event()
        asked = asyncio.Event()
        world.metering.on_reserve = asked.set
        first = asyncio.ensure_future(world.generate())
        await asked.wait()

        second = world.embed("a", request_id="req_2") if door == "embed" else world.generate(request_id="req_2")
        with pytest.raises(Unavailable):
            await asyncio.wait_for(second, 5)

        world.metering.gate.set()
        await first
        await world.tasks.idle()
        assert list(world.metering.reserved) == ["req_1"]
        assert len(world.tasks) == 0


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

    @pytest.mark.parametrize(
        ("silence", "kind"),
        [
            (Unavailable("metering does not answer"), Kind.UNAVAILABLE),
            (DeadlineExceeded("too late"), Kind.UNAVAILABLE),
            # Its database went away, perhaps after the commit.
            (RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "no database"), Kind.UNAVAILABLE),
            (RemoteError(Kind.INTERNAL, "INTERNAL", "a bug"), Kind.INTERNAL),
        ],
    )
    async def test_metering_that_decides_nothing_is_told_to_release(self, silence, kind):
        world = World(metering=FakeMetering(failure=silence))

        with pytest.raises(ArgosyError) as failed:
            await world.generate()

        assert failed.value.kind is kind

        assert (await world.usage).attempts == ()
        assert not world.worker.plans

    async def test_a_caller_whose_own_time_ran_out_meanwhile_is_told_so(self):
        world = World(metering=FakeMetering(failure=DeadlineExceeded("too late")))
        world.metering.on_reserve = lambda: world.clock.advance(timedelta(seconds=6))

        with pytest.raises(DeadlineExceeded):
            await world.generate(time=timedelta(seconds=5))

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

        with pytest.raises(RemoteError) as failed:
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

        with pytest.raises(RemoteError) as failed:
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
        refusal = RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "it is draining")
        world = World(FakeWorker(refusal))

        with pytest.raises(RemoteError):
            await world.generate()

        assert (await world.usage).attempts == ()

    @pytest.mark.parametrize(
        "end", [Unavailable("it is gone"), DeadlineExceeded("silent"), RemoteError(Kind.INTERNAL, "INTERNAL", "bug")]
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

    async def test_that_looks_like_a_refusal_but_comes_after_a_byte_leaves_a_call_of_unknown_usage(self):
        late = RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "it is draining")
        world = World(FakeWorker(Answering(0), Payloads([b"{}"]), late))

        failure = done_of(await world.generate()).failure

        assert failure is not None
        assert failure.message == "it is draining"
        (attempt,) = (await world.usage).attempts
        assert attempt.usage == UNKNOWN

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
