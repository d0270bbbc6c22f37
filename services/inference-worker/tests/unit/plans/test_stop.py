"""Plans that are stopped: what is still read, and whose doing it is that usage is not known."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.plans.model import AttemptOutcome, Chunk, Draining, Event, Plan
from inference_worker.plans.run import PlanRun
from inference_worker.providers.ports import Completion, Upstream
from values.usage import UNKNOWN_USAGE, ExposureCause, TokenUsage, UsageSource
from worker_fakes import (
    FakeCompletion,
    FakeCounter,
    FakeObserver,
    FakeProvider,
    RecordedRun,
    a_candidate,
    a_plan,
    an_upstream,
    chunk,
    record,
)

REPORTED = TokenUsage(UsageSource.REPORTED, 2, 80)


class Scripted:
    """A provider that returns one completion."""

    def __init__(self, completion: FakeCompletion) -> None:
        self.completion = completion

    async def open(self, model: str, body: bytes, *, stream: bool, credential: Any = None) -> Completion:
        return self.completion


async def stopped_after_the_chunks(
    completion: FakeCompletion, *, usage_wait: float = 60, stream: bool = True, **fields: Any
) -> RecordedRun:
    """Run a plan, and stop it once `completion` has returned all of its payloads."""
    upstreams = {"fake": Upstream(FakeCounter(), provider=Scripted(completion))}
    run = PlanRun(
        a_plan(a_candidate(**fields), stream=stream),
        upstreams=upstreams,
        clock=FakeClock(),
        observer=FakeObserver(),
        usage_wait=timedelta(seconds=usage_wait),
    )

    async def stop(event: Event) -> None:
        if isinstance(event, Chunk) and not completion.reads:
            run.stop()

    async with asyncio.timeout(30):
        return await record(run, stop)


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "hello"},
        {"reasoning": "hidden"},
        {"function_call": {"name": "f", "arguments": "{}"}},
        {"content": [{"type": "text", "text": "part"}]},
        {"audio": {"data": "QUJD"}},
    ],
)
async def test_after_the_finish_reason_the_usage_is_waited_for(delta: dict[str, Any]):
    completion = FakeCompletion([[chunk(delta)], [chunk({}, "stop")]], usage_at_end=REPORTED, streamed=True)

    recorded = await stopped_after_the_chunks(completion)

    (attempt,) = recorded.finished.attempts
    assert (attempt.outcome, attempt.usage, attempt.exposure_cause) == (AttemptOutcome.SUCCEEDED, REPORTED, None)
    assert recorded.finished.usage_payload


async def test_the_wait_for_the_usage_is_bounded_and_then_the_output_is_counted():
    completion = FakeCompletion([[chunk({"content": "one two"}, "stop")]], hangs=True)

    recorded = await stopped_after_the_chunks(completion, usage_wait=0.02)

    assert completion.aborted
    (attempt,) = recorded.finished.attempts
    assert attempt.outcome is AttemptOutcome.CANCELLED
    assert (attempt.usage.source, attempt.usage.output_tokens) == (UsageSource.COUNTED, 2)


async def test_what_a_slow_client_left_unread_is_read_and_counted():
    rest: list[Sequence[bytes]] = [[chunk({"content": "word "})] for _ in range(50)]
    completion = FakeCompletion(rest, usage_at_end=REPORTED, streamed=True, backlog_bytes=100_000)
    upstreams = {"fake": Upstream(FakeCounter(), provider=Scripted(completion))}
    run = PlanRun(a_plan(a_candidate()), upstreams=upstreams, clock=FakeClock(), observer=FakeObserver())
    stopped: list[int] = []

    async def stop(event: Event) -> None:
        if isinstance(event, Chunk) and not stopped:
            stopped.append(len(completion.reads))
            run.stop()

    recorded = await record(run, stop)

    assert stopped == [49]
    assert recorded.finished.attempts[0].usage == REPORTED


async def test_before_the_finish_reason_the_upstream_is_aborted_at_once():
    completion = FakeCompletion([[chunk({"content": "one two"})]], usage_at_end=REPORTED, streamed=True)

    recorded = await stopped_after_the_chunks(completion)

    assert completion.aborted
    assert recorded.finished.attempts[0].usage.output_tokens == 2


@pytest.mark.parametrize(
    ("delta", "fields"),
    [
        ({"audio": {"data": "QUJD"}}, {}),
        ({"images": [{"type": "image_url"}]}, {}),
        ({"something_new": "text"}, {}),
        # What the model thinks is not shown, and costs.
        ({"content": "one"}, {"reasoning_effort": "high"}),
        ({"content": "one"}, {"max_completion_tokens": 100}),
    ],
)
async def test_what_cannot_be_counted_whole_is_unknown_and_the_clients_doing(
    delta: dict[str, Any], fields: dict[str, Any]
):
    recorded = await stopped_after_the_chunks(FakeCompletion([[chunk(delta)]], hangs=True), **fields)

    (attempt,) = recorded.finished.attempts
    assert (attempt.usage.source, attempt.usage.output_tokens) == (UsageSource.UNKNOWN, None)
    assert attempt.exposure_cause is ExposureCause.CLIENT


@pytest.mark.parametrize(
    ("reason", "cause"),
    [(None, ExposureCause.CLIENT), (Draining("the worker is shutting down"), ExposureCause.FLEET)],
)
async def test_a_call_that_is_stopped_before_a_byte_has_its_cause(reason: Draining | None, cause: ExposureCause):
    upstreams = {"fake": an_upstream(FakeProvider())}
    plan: Plan = a_plan(a_candidate("timeout"))
    run = PlanRun(plan, upstreams=upstreams, clock=FakeClock(), observer=FakeObserver())
    asyncio.get_running_loop().call_later(0.005, run.stop, reason)

    (attempt,) = (await record(run)).finished.attempts

    assert (attempt.usage, attempt.exposure_cause) == (UNKNOWN_USAGE, cause)


@pytest.mark.parametrize("model", ["timeout", "garbage"])
async def test_usage_that_the_provider_left_unknown_is_its_doing(model: str):
    plan = a_plan(a_candidate(model), first_byte_timeout=0.3)
    run = PlanRun(plan, upstreams={"fake": an_upstream(FakeProvider())}, clock=FakeClock(), observer=FakeObserver())

    (attempt,) = (await record(run)).finished.attempts

    assert (attempt.usage, attempt.exposure_cause) == (UNKNOWN_USAGE, ExposureCause.PROVIDER)
