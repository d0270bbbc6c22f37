"""Requests that are refused, and answers that fail: what is charged and what is released."""

import asyncio
from datetime import timedelta

import pytest
from chassis.errors import ArgosyError, DeadlineExceeded, InvalidRequest, Kind, RemoteError, Unavailable
from orchestrator.chat.model import RequestTooLarge
from orchestrator.routing.model import ALL_TENANTS, ModelNotFound, RouteCandidate, RouteEntry, Task
from orchestrator.usage.model import Attempt
from orchestrator.workers.model import AttemptStarting, Chunk, Started
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause

from services.orchestrator.tests.fakes import SMOLLM2, FakeMeteringClient, FakeWorkerClient, route_table
from services.orchestrator.tests.harness import (
    HELLO,
    LIMITS,
    Harness,
    finished_of,
    payloads_of,
    reported,
    worker_finished,
)

ANSWER = (Started(0), Chunk([b'{"a":1}']), Chunk([b'{"a":2}', b'{"a":3}']))

REJECTED = Attempt(1, 0, NO_USAGE)

TWO = route_table(RouteEntry(ALL_TENANTS, "smollm2", Task.CHAT, (SMOLLM2, RouteCandidate("dear", "model", 512))))


class TestRefusedBeforeAnythingIsSpent:
    async def test_an_unknown_model(self) -> None:
        harness = Harness()

        with pytest.raises(ModelNotFound) as refused:
            await harness.generate(model="gpt-17")

        assert refused.value.param == "model"
        assert not harness.metering.reserved

    async def test_a_model_for_another_task(self) -> None:
        with pytest.raises(ModelNotFound):
            await Harness().generate(model="all-minilm-l6-v2")

    async def test_an_unpriced_model_is_refused_before_the_worker_is_called(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))), FakeMeteringClient(prices={}))

        with pytest.raises(RemoteError) as refused:
            await harness.generate()

        assert refused.value.reason == "UNPRICED_MODEL"
        assert not harness.worker.plans
        await harness.tasks.wait_idle()
        assert not harness.outbox.written

    async def test_a_spent_budget(self) -> None:
        harness = Harness(metering=FakeMeteringClient(available=10))

        with pytest.raises(RemoteError) as refused:
            await harness.generate()

        assert (refused.value.kind, refused.value.reason) == (Kind.EXHAUSTED, "INSUFFICIENT_QUOTA")
        assert not harness.worker.plans

    async def test_more_than_a_worker_can_be_sent(self) -> None:
        harness = Harness()
        body = {**HELLO, "messages": [{"role": "user", "content": "x" * LIMITS.max_plan_bytes}]}

        with pytest.raises(RequestTooLarge):
            await harness.generate(body)

        assert not harness.metering.reserved

    async def test_a_request_id_that_cannot_be_a_key(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            await Harness().generate(request_id="req\x00")

        assert refused.value.param == "request_id"

    async def test_a_request_when_too_many_are_in_progress(self) -> None:
        harness = Harness(max_tasks=0)

        with pytest.raises(Unavailable):
            await harness.generate()

        assert not harness.metering.reserved

    @pytest.mark.parametrize("method", ["generate", "embed"])
    async def test_a_request_while_too_many_are_being_prepared(self, method: str) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))), max_tasks=1)
        harness.metering.gate = asyncio.Event()
        reserving = asyncio.Event()
        harness.metering.on_reserve = reserving.set
        first = asyncio.ensure_future(harness.generate())
        await reserving.wait()

        second = harness.embed("a", request_id="req_2") if method == "embed" else harness.generate(request_id="req_2")
        with pytest.raises(Unavailable):
            await asyncio.wait_for(second, 30)

        harness.metering.gate.set()
        await first
        await harness.tasks.wait_idle()
        assert list(harness.metering.reserved) == ["req_1"]
        assert len(harness.tasks) == 0


class TestReservation:
    async def test_every_candidate_is_bounded_and_the_lease_outlasts_the_deadline(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))), routes=TWO)

        await harness.generate({**HELLO, "n": 3}, timeout=timedelta(seconds=40))

        bounds, lease = harness.metering.reserved["req_1"]
        assert [(bound.price_key, bound.output_tokens) for bound in bounds] == [
            ("local/smollm2-135m-instruct", 3 * 1024),
            ("dear/model", 3 * 512),
        ]
        assert all(bound.input_tokens >= len(b"Who sails an argosy?") for bound in bounds)
        assert lease == LIMITS.reservation_lease + timedelta(seconds=40) + LIMITS.abort_timeout

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            (Unavailable("metering does not answer"), Kind.UNAVAILABLE),
            (DeadlineExceeded("too late"), Kind.UNAVAILABLE),
            # Its database went away, perhaps after the commit.
            (RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "no database"), Kind.UNAVAILABLE),
            (RemoteError(Kind.INTERNAL, "INTERNAL", "a bug"), Kind.INTERNAL),
        ],
    )
    async def test_a_reservation_of_unknown_outcome_is_released(self, failure: Exception, kind: Kind) -> None:
        harness = Harness(metering=FakeMeteringClient(failure=failure))

        with pytest.raises(ArgosyError) as failed:
            await harness.generate()

        assert failed.value.kind is kind

        assert (await harness.usage).attempts == ()
        assert not harness.worker.plans

    async def test_a_deadline_that_expires_while_reserving_is_deadline_exceeded(self) -> None:
        harness = Harness(metering=FakeMeteringClient(failure=DeadlineExceeded("too late")))
        harness.metering.on_reserve = lambda: harness.clock.advance(timedelta(seconds=6))

        with pytest.raises(DeadlineExceeded):
            await harness.generate(timeout=timedelta(seconds=5))

    async def test_a_disconnect_while_reserving_releases_the_money(self) -> None:
        harness = Harness(metering=FakeMeteringClient(failure=asyncio.CancelledError()))

        with pytest.raises(asyncio.CancelledError):
            await harness.generate()

        assert (await harness.usage).attempts == ()

    async def test_a_request_that_ran_out_of_time_while_reserving_is_released_and_not_sent(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1))))
        harness.metering.on_reserve = lambda: harness.clock.advance(timedelta(seconds=6))

        with pytest.raises(DeadlineExceeded):
            await harness.generate(timeout=timedelta(seconds=5))

        assert (await harness.usage).attempts == ()
        assert not harness.worker.plans


class TestFailure:
    async def test_before_the_first_byte_is_an_error_with_the_workers_reason(self) -> None:
        error = RemoteError(Kind.THROTTLED, "UPSTREAM_RATE_LIMITED", "slow down")
        harness = Harness(FakeWorkerClient(worker_finished(reported(0, 0), error=error)))

        with pytest.raises(RemoteError) as failed:
            await harness.generate()

        assert (failed.value.kind, failed.value.reason) == (Kind.THROTTLED, "UPSTREAM_RATE_LIMITED")
        assert failed.value.message == "slow down"
        assert (await harness.usage).attempts[0].usage == reported(0, 0)

    @pytest.mark.parametrize(
        ("reason", "kind"),
        [
            ("UPSTREAM_REJECTED", Kind.INVALID),
            ("UPSTREAM_TIMED_OUT", Kind.TIMED_OUT),
            ("UPSTREAM_FAILED", Kind.UPSTREAM),
            ("UPSTREAM_SOMETHING_NEW", Kind.UPSTREAM),
        ],
    )
    async def test_has_the_kind_that_the_worker_gives_it(self, reason: str, kind: Kind) -> None:
        error = RemoteError(kind, reason, "no")
        harness = Harness(FakeWorkerClient(worker_finished(UNKNOWN_USAGE, error=error)))

        with pytest.raises(RemoteError) as failed:
            await harness.generate()

        assert failed.value.kind is kind

    async def test_after_the_first_byte_is_in_finished_with_the_cost(self) -> None:
        error = RemoteError(Kind.UPSTREAM, "UPSTREAM_INTERRUPTED", "it broke off")
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(10, 2), error=error)))

        events = await harness.generate()

        assert payloads_of(events)
        assert finished_of(events).error is error
        assert finished_of(events).cost == 10 * 50 + 2 * 200

    async def test_of_an_unavailable_worker_releases_the_money(self) -> None:
        harness = Harness(FakeWorkerClient())
        harness.worker.unavailable = Unavailable("the worker does not answer")

        with pytest.raises(Unavailable):
            await harness.generate()

        assert (await harness.usage).attempts == ()

    async def test_of_a_worker_that_refuses_the_plan_releases_the_money(self) -> None:
        refusal = RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "it is draining")
        harness = Harness(FakeWorkerClient(refusal))

        with pytest.raises(RemoteError):
            await harness.generate()

        assert (await harness.usage).attempts == ()

    @pytest.mark.parametrize(
        "end", [Unavailable("it is down"), DeadlineExceeded("silent"), RemoteError(Kind.INTERNAL, "INTERNAL", "bug")]
    )
    async def test_of_a_worker_that_dies_before_the_first_byte_leaves_a_call_of_unknown_usage(
        self, end: Exception
    ) -> None:
        harness = Harness(FakeWorkerClient(end))

        with pytest.raises(ArgosyError):
            await harness.generate()

        (attempt,) = (await harness.usage).attempts
        assert attempt.usage == UNKNOWN_USAGE

    async def test_of_a_worker_that_dies_mid_answer_is_in_finished_and_counts_for_the_candidate_that_answered(
        self,
    ) -> None:
        script = (AttemptStarting(2, 1, (REJECTED,)), Started(1), Chunk([b"{}"]), Unavailable("it is down"))
        harness = Harness(FakeWorkerClient(*script), routes=TWO)

        events = await harness.generate()

        error = finished_of(events).error
        assert error is not None
        assert error.reason == "SERVICE_UNAVAILABLE"
        rejected, attempt = (await harness.usage).attempts
        assert (rejected.number, rejected.price.key, rejected.usage) == (1, "local/smollm2-135m-instruct", NO_USAGE)
        assert (attempt.number, attempt.price.key, attempt.usage) == (2, "dear/model", UNKNOWN_USAGE)
        assert attempt.exposure_cause is ExposureCause.FLEET
        assert finished_of(events).cost == 0

    async def test_that_looks_like_a_refusal_but_comes_after_a_byte_leaves_a_call_of_unknown_usage(self) -> None:
        late = RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "it is draining")
        harness = Harness(FakeWorkerClient(Started(0), Chunk([b"{}"]), late))

        error = finished_of(await harness.generate()).error

        assert error is not None
        assert error.message == "it is draining"
        (attempt,) = (await harness.usage).attempts
        assert attempt.usage == UNKNOWN_USAGE

    async def test_that_is_our_bug_still_settles_the_call(self) -> None:
        harness = Harness(FakeWorkerClient(Started(0), RuntimeError("a bug")))

        with pytest.raises(RuntimeError):
            await harness.generate()

        (attempt,) = (await harness.usage).attempts
        assert attempt.usage == UNKNOWN_USAGE
        assert harness.crashes

    async def test_of_an_attempt_of_no_candidate_of_the_plan_still_settles_the_call(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(1, 1), candidates=(9,))))

        error = finished_of(await harness.generate()).error

        assert error is not None
        assert error.reason == "INTERNAL"
        (attempt,) = (await harness.usage).attempts
        assert attempt.usage == UNKNOWN_USAGE
