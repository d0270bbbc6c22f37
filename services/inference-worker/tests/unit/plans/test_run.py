import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.testing import FakeClock
from inference_worker.plans.model import (
    AttemptOutcome,
    Candidate,
    CandidateRole,
    Chunk,
    Draining,
    Plan,
    Started,
)
from inference_worker.plans.run import PlanRun
from inference_worker.providers.ports import Completion, Upstream
from provider_contract import until
from values.usage import NO_USAGE, UNKNOWN_USAGE, TokenDetails, TokenUsage, UsageSource
from worker_fakes import (
    WORDS,
    FakeCounter,
    FakeObserver,
    FakeProvider,
    a_candidate,
    a_plan,
    an_upstream,
    record,
)

# The fake counter counts words: two in the prompt; the overhead is of one message, and of the output.
PROMPT_TOKENS = 2 + 2 * 3


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def observer() -> FakeObserver:
    return FakeObserver()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def run(provider: FakeProvider, observer: FakeObserver, clock: FakeClock):
    def start(plan: Plan) -> PlanRun:
        fake = an_upstream(provider)
        upstreams = {"fake": fake, "other": fake, "embeddings-only": Upstream(FakeCounter())}
        return PlanRun(plan, upstreams=upstreams, clock=clock, observer=observer)

    return start


async def test_a_run_emits_started_and_chunks_and_then_returns(run):
    recorded = await record(run(a_plan(a_candidate())))

    assert isinstance(recorded.events[0], Started)
    assert recorded.started == [0]
    assert recorded.text == "".join(WORDS)
    assert recorded.finished.error is None
    assert b'"choices": []' in recorded.finished.usage_payload
    (attempt,) = recorded.finished.attempts
    assert (attempt.number, attempt.candidate, attempt.outcome) == (1, 0, AttemptOutcome.SUCCEEDED)
    assert attempt.usage == TokenUsage(UsageSource.REPORTED, 2, 8)


async def test_payloads_that_arrived_together_stay_together(run):
    recorded = await record(run(a_plan(a_candidate())))

    assert [len(event.payloads) for event in recorded.events if isinstance(event, Chunk)] == [len(WORDS), 1]


@pytest.mark.parametrize(
    ("first", "outcome", "usage"),
    [
        ("429", AttemptOutcome.REJECTED, NO_USAGE),
        ("500", AttemptOutcome.REJECTED, NO_USAGE),
        ("401", AttemptOutcome.REJECTED, NO_USAGE),
        ("error-first", AttemptOutcome.REJECTED, NO_USAGE),
        ("garbage", AttemptOutcome.INTERRUPTED, UNKNOWN_USAGE),
    ],
)
async def test_a_failure_before_the_first_byte_is_recorded_and_the_next_candidate_tried(
    run, first: str, outcome: AttemptOutcome, usage: TokenUsage
):
    recorded = await record(run(a_plan(a_candidate(first), a_candidate(upstream="other"))))

    assert recorded.started == [1]
    assert recorded.finished.error is None
    assert [attempt.outcome for attempt in recorded.finished.attempts] == [outcome, AttemptOutcome.SUCCEEDED]
    assert [attempt.candidate for attempt in recorded.finished.attempts] == [0, 1]
    assert [attempt.number for attempt in recorded.finished.attempts] == [1, 2]
    assert recorded.finished.attempts[0].usage == usage


@pytest.mark.parametrize("role", [CandidateRole.CONTEXT_OVERFLOW, CandidateRole.CONTENT_POLICY])
async def test_a_fallback_for_other_requests_is_not_tried_after_a_failure(
    run, provider: FakeProvider, role: CandidateRole
):
    recorded = await record(run(a_plan(a_candidate("500"), replace(a_candidate(), role=role))))

    assert set(provider.opened) == {"500"}
    assert recorded.finished.error is not None


async def test_a_rejected_request_is_not_tried_on_other_candidates(run, provider: FakeProvider):
    recorded = await record(run(a_plan(a_candidate("400"), a_candidate())))

    assert provider.opened == ["400"]
    assert recorded.started == []
    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == "UPSTREAM_REJECTED"
    assert recorded.finished.error.message == "simulated 400"


async def test_when_every_candidate_fails_the_last_error_is_the_plans(run):
    recorded = await record(run(a_plan(a_candidate("500"), a_candidate("429"))))

    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == "UPSTREAM_RATE_LIMITED"
    assert len(recorded.finished.attempts) == 2


@pytest.mark.parametrize("upstream", ["unknown", "embeddings-only"])
async def test_an_unknown_upstream_or_one_without_chat_is_rejected_and_the_next_tried(run, upstream: str):
    recorded = await record(run(a_plan(Candidate(upstream, "m", b"{}"), a_candidate())))

    assert recorded.started == [1]
    assert recorded.finished.attempts[0].outcome is AttemptOutcome.REJECTED
    assert recorded.finished.attempts[0].usage == NO_USAGE


async def test_a_dropped_connection_is_tried_once_more_on_the_same_candidate(run, provider: FakeProvider):
    recorded = await record(run(a_plan(a_candidate("cut-before"), a_candidate())))

    assert provider.opened == ["cut-before", "cut-before", "instant"]
    assert [attempt.candidate for attempt in recorded.finished.attempts] == [0, 0, 1]
    assert recorded.finished.error is None


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("cut", "UPSTREAM_INTERRUPTED"),
        ("error-event", "UPSTREAM_INTERRUPTED"),
        ("garbage-middle", "UPSTREAM_INVALID_RESPONSE"),
    ],
)
async def test_after_the_first_byte_there_is_no_fallback_and_the_output_is_counted(
    run, provider: FakeProvider, model: str, reason: str
):
    recorded = await record(run(a_plan(a_candidate(model), a_candidate())))

    assert provider.opened == [model]
    assert recorded.text == "".join(WORDS[:3])
    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == reason
    (attempt,) = recorded.finished.attempts
    assert attempt.outcome is AttemptOutcome.INTERRUPTED
    assert attempt.usage == TokenUsage(UsageSource.COUNTED, PROMPT_TOKENS, 3)


async def test_an_upstream_that_never_responds_times_out_and_may_have_been_billed(run):
    plan = a_plan(a_candidate("timeout"), a_candidate(), first_byte_timeout=0.3)

    recorded = await record(run(plan))

    assert recorded.started == [1]
    assert recorded.finished.attempts[0].outcome is AttemptOutcome.TIMED_OUT
    assert recorded.finished.attempts[0].usage == UNKNOWN_USAGE
    assert recorded.finished.attempts[0].first_byte_after is None


async def test_a_stalled_stream_times_out(run, provider: FakeProvider):
    recorded = await record(run(a_plan(a_candidate("silent"), a_candidate(), idle_timeout=0.3)))

    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == "UPSTREAM_TIMED_OUT"
    (attempt,) = recorded.finished.attempts
    assert attempt.outcome is AttemptOutcome.INTERRUPTED
    assert attempt.usage == TokenUsage(UsageSource.COUNTED, PROMPT_TOKENS, 3)
    assert provider.completions[0].aborted


async def test_the_deadline_holds_over_all_attempts(run, provider: FakeProvider):
    plan = a_plan(a_candidate("timeout"), a_candidate("timeout"), a_candidate(), deadline=2, first_byte_timeout=1.2)

    recorded = await record(run(plan))

    assert provider.opened == ["timeout", "timeout"]
    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == "UPSTREAM_TIMED_OUT"
    assert [attempt.outcome for attempt in recorded.finished.attempts] == [AttemptOutcome.TIMED_OUT] * 2


async def test_the_deadline_ends_a_stream_too(run):
    recorded = await record(run(a_plan(a_candidate("silent"), deadline=0.3)))

    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == "UPSTREAM_TIMED_OUT"


async def test_a_slow_reader_does_not_use_up_the_idle_time(run):
    recorded = await record(run(a_plan(a_candidate(), idle_timeout=0.3)), lambda _: asyncio.sleep(0.4))

    assert recorded.finished.error is None


async def test_usage_that_the_upstream_does_not_report_is_counted(run):
    recorded = await record(run(a_plan(a_candidate("no-usage"))))

    assert recorded.finished.attempts[0].usage == TokenUsage(UsageSource.COUNTED, PROMPT_TOKENS, 8)
    assert recorded.finished.usage_payload == b""


async def test_a_buffered_completion_is_counted_like_a_streamed_one(run):
    recorded = await record(run(a_plan(a_candidate("no-usage", stream=False), stream=False)))

    assert recorded.finished.attempts[0].usage == TokenUsage(UsageSource.COUNTED, PROMPT_TOKENS, 8)


async def test_of_an_interrupted_response_only_what_was_not_reported_is_counted(run, provider: FakeProvider):
    async def on_event(_: object) -> None:
        # As Anthropic does: the prompt's tokens come first, the output's at the end.
        provider.completions[0].usage = TokenUsage(UsageSource.REPORTED, 100, None, TokenDetails(cached_input=60))

    recorded = await record(run(a_plan(a_candidate("cut"))), on_event)

    assert recorded.finished.attempts[0].usage == TokenUsage(UsageSource.COUNTED, 100, 3, TokenDetails(cached_input=60))


async def test_a_draining_worker_is_the_error(run):
    plan_run = run(a_plan(a_candidate("silent")))
    asyncio.get_running_loop().call_later(0.005, plan_run.stop, Draining("the worker is shutting down"))

    recorded = await record(plan_run)

    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == "SERVICE_UNAVAILABLE"
    assert recorded.finished.attempts[0].outcome is AttemptOutcome.CANCELLED


async def test_what_cannot_be_counted_is_unknown(provider: FakeProvider, observer: FakeObserver, clock: FakeClock):
    class NoCounter:
        async def count(self, texts: Sequence[str]) -> int | None:
            return None

    upstreams = {"fake": Upstream(NoCounter(), provider=provider)}
    run = PlanRun(a_plan(a_candidate("no-usage")), upstreams=upstreams, clock=clock, observer=observer)

    recorded = await record(run)

    assert recorded.finished.attempts[0].usage == UNKNOWN_USAGE


async def test_stop_within_the_response_aborts_the_upstream_and_counts_the_output(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate("silent"), a_candidate()))

    async def on_event(event: object) -> None:
        if isinstance(event, Chunk):
            asyncio.get_running_loop().call_soon(plan_run.stop)

    recorded = await record(plan_run, on_event)

    assert provider.completions[0].aborted
    assert provider.opened == ["silent"]
    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == "STOPPED"
    assert recorded.finished.attempts[0].outcome is AttemptOutcome.CANCELLED
    assert recorded.finished.attempts[0].usage == TokenUsage(UsageSource.COUNTED, PROMPT_TOKENS, 3)


async def test_stop_while_an_event_is_emitted_aborts_the_upstream_at_once(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate()))

    async def on_event(event: object) -> None:
        if isinstance(event, Chunk):
            plan_run.stop()

            assert provider.completions[0].aborted

    recorded = await record(plan_run, on_event)

    assert recorded.finished.attempts[0].outcome is AttemptOutcome.CANCELLED


async def test_stop_before_the_first_byte_leaves_the_usage_unknown(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate("timeout"), a_candidate()))
    asyncio.get_running_loop().call_later(0.005, plan_run.stop)

    recorded = await record(plan_run)

    assert provider.opened == ["timeout"]
    assert recorded.finished.attempts[0].outcome is AttemptOutcome.CANCELLED
    assert recorded.finished.attempts[0].usage == UNKNOWN_USAGE


async def test_stop_before_the_request_was_sent_uses_nothing(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate()))
    plan_run.stop()

    recorded = await record(plan_run)

    assert provider.opened == []
    assert recorded.finished.attempts[0].outcome is AttemptOutcome.CANCELLED
    assert recorded.finished.attempts[0].usage == NO_USAGE


async def test_stop_after_the_end_changes_nothing(run):
    plan_run = run(a_plan(a_candidate()))

    recorded = await record(plan_run)
    plan_run.stop()

    assert recorded.finished.error is None


async def test_a_cancelled_run_aborts_the_upstream_and_is_observed(run, provider: FakeProvider, observer: FakeObserver):
    task = asyncio.create_task(record(run(a_plan(a_candidate("silent")))))
    await until(lambda: provider.completions and not provider.completions[0].reads)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert provider.completions[0].aborted
    ((attempt, _),) = observer.finished
    assert attempt.outcome is AttemptOutcome.CANCELLED


async def test_a_run_whose_events_cannot_be_emitted_aborts_the_upstream(
    run, provider: FakeProvider, observer: FakeObserver
):
    async def on_event(_: object) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await record(run(a_plan(a_candidate())), on_event)

    assert provider.completions[0].aborted
    assert len(observer.finished) == 1


async def test_a_bug_in_a_provider_surfaces_and_is_observed(observer: FakeObserver, clock: FakeClock):
    class Broken:
        async def open(self, model: str, body: bytes, *, stream: bool, credential: object = None) -> Completion:
            raise KeyError("bug")

    run = PlanRun(
        a_plan(a_candidate()),
        upstreams={"fake": Upstream(FakeCounter(), provider=Broken())},
        clock=clock,
        observer=observer,
    )

    with pytest.raises(KeyError):
        await record(run)

    assert len(observer.finished) == 1


async def test_every_attempt_is_observed_from_start_to_finish(run, observer: FakeObserver):
    await record(run(a_plan(a_candidate("500"), a_candidate())))

    assert observer.started == [("fake", 1), ("fake", 2)]
    assert [error and error.reason for _, error in observer.finished] == ["UPSTREAM_FAILED", None]


async def test_durations_are_measured_from_sending(run, clock: FakeClock):
    async def on_event(_: object) -> None:
        clock.advance(timedelta(seconds=1))

    recorded = await record(run(a_plan(a_candidate())), on_event)

    attempt = recorded.finished.attempts[0]
    # The provider took no time; the caller took a second for each of the three events.
    assert attempt.first_byte_after == timedelta(0)
    assert attempt.duration == timedelta(seconds=3)
