import asyncio
from datetime import timedelta

import pytest
from chassis.testing import FakeClock
from inference_worker.domain.account import Outcome
from inference_worker.domain.failures import Draining
from inference_worker.domain.infer import Chunk, PlanRun, Started
from inference_worker.domain.plan import Candidate, Plan
from inference_worker.domain.ports import Upstream
from inference_worker.domain.usage import NOTHING, UNKNOWN, Usage, UsageSource
from provider_contract import until
from worker_fakes import (
    WORDS,
    FakeCounter,
    FakeJournal,
    FakeProvider,
    a_candidate,
    a_plan,
    an_upstream,
    run_to_the_end,
)

# The fake counter counts words: two in the prompt, one message, the answer's start.
PROMPT = 2 + 2 * 3


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def journal() -> FakeJournal:
    return FakeJournal()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def run(provider: FakeProvider, journal: FakeJournal, clock: FakeClock):
    def start(plan: Plan) -> PlanRun:
        upstreams = {"fake": an_upstream(provider), "deaf": Upstream(FakeCounter())}
        return PlanRun(plan, upstreams=upstreams, clock=clock, journal=journal)

    return start


async def test_an_answer_is_started_chunked_and_finished_in_this_order(run):
    said = await run_to_the_end(run(a_plan(a_candidate())))

    assert isinstance(said.steps[0], Started)
    assert said.started == [0]
    assert said.text == "".join(WORDS)
    assert said.finished.failure is None
    assert b'"choices": []' in said.finished.usage_payload
    (attempt,) = said.finished.attempts
    assert (attempt.number, attempt.candidate, attempt.outcome) == (1, 0, Outcome.ANSWERED)
    assert attempt.usage == Usage(UsageSource.REPORTED, 2, 8)


async def test_payloads_that_arrived_together_stay_together(run):
    said = await run_to_the_end(run(a_plan(a_candidate())))

    assert [len(step.payloads) for step in said.steps if isinstance(step, Chunk)] == [len(WORDS), 1]


@pytest.mark.parametrize(
    ("first", "outcome", "usage"),
    [
        ("429", Outcome.REFUSED, NOTHING),
        ("500", Outcome.REFUSED, NOTHING),
        ("401", Outcome.REFUSED, NOTHING),
        ("error-first", Outcome.REFUSED, NOTHING),
        ("garbage", Outcome.CUT, UNKNOWN),
    ],
)
async def test_a_failure_before_the_first_byte_is_accounted_and_the_next_candidate_answers(
    run, first: str, outcome: Outcome, usage: Usage
):
    said = await run_to_the_end(run(a_plan(a_candidate(first), a_candidate())))

    assert said.started == [1]
    assert said.finished.failure is None
    assert [attempt.outcome for attempt in said.finished.attempts] == [outcome, Outcome.ANSWERED]
    assert [attempt.candidate for attempt in said.finished.attempts] == [0, 1]
    assert [attempt.number for attempt in said.finished.attempts] == [1, 2]
    assert said.finished.attempts[0].usage == usage


async def test_a_request_that_is_itself_refused_is_not_tried_elsewhere(run, provider: FakeProvider):
    said = await run_to_the_end(run(a_plan(a_candidate("400"), a_candidate())))

    assert provider.opened == ["400"]
    assert said.started == []
    assert said.finished.failure is not None
    assert said.finished.failure.reason == "UPSTREAM_REFUSED"
    assert said.finished.failure.message == "simulated 400"


async def test_when_every_candidate_fails_the_last_failure_is_the_plans(run):
    said = await run_to_the_end(run(a_plan(a_candidate("500"), a_candidate("429"))))

    assert said.finished.failure is not None
    assert said.finished.failure.reason == "UPSTREAM_RATE_LIMITED"
    assert len(said.finished.attempts) == 2


@pytest.mark.parametrize("upstream", ["nowhere", "deaf"])
async def test_an_upstream_that_is_not_there_or_cannot_chat_is_refused_and_the_next_is_tried(run, upstream: str):
    said = await run_to_the_end(run(a_plan(Candidate(upstream, "m", b"{}"), a_candidate())))

    assert said.started == [1]
    assert said.finished.attempts[0].outcome is Outcome.REFUSED
    assert said.finished.attempts[0].usage == NOTHING


async def test_a_dropped_connection_is_tried_once_more_on_the_same_candidate(run, provider: FakeProvider):
    said = await run_to_the_end(run(a_plan(a_candidate("cut-before"), a_candidate())))

    assert provider.opened == ["cut-before", "cut-before", "instant"]
    assert [attempt.candidate for attempt in said.finished.attempts] == [0, 0, 1]
    assert said.finished.failure is None


@pytest.mark.parametrize(
    ("model", "reason"),
    [("cut", "UPSTREAM_CUT"), ("error-event", "UPSTREAM_CUT"), ("garbage-middle", "UPSTREAM_GARBAGE")],
)
async def test_after_the_first_byte_there_is_no_fallback_and_what_was_said_is_counted(
    run, provider: FakeProvider, model: str, reason: str
):
    said = await run_to_the_end(run(a_plan(a_candidate(model), a_candidate())))

    assert provider.opened == [model]
    assert said.text == "".join(WORDS[:3])
    assert said.finished.failure is not None
    assert said.finished.failure.reason == reason
    (attempt,) = said.finished.attempts
    assert attempt.outcome is Outcome.CUT
    assert attempt.usage == Usage(UsageSource.COUNTED, PROMPT, 3)


async def test_an_upstream_that_never_answers_is_given_up_and_may_have_cost_something(run):
    plan = a_plan(a_candidate("timeout"), a_candidate(), first_byte_timeout=0.01)

    said = await run_to_the_end(run(plan))

    assert said.started == [1]
    assert said.finished.attempts[0].outcome is Outcome.TIMED_OUT
    assert said.finished.attempts[0].usage == UNKNOWN
    assert said.finished.attempts[0].first_byte_after is None


async def test_silence_in_the_middle_of_a_stream_ends_it(run, provider: FakeProvider):
    said = await run_to_the_end(run(a_plan(a_candidate("silent"), a_candidate(), idle_timeout=0.01)))

    assert said.finished.failure is not None
    assert said.finished.failure.reason == "UPSTREAM_TIMED_OUT"
    (attempt,) = said.finished.attempts
    assert attempt.outcome is Outcome.CUT
    assert attempt.usage == Usage(UsageSource.COUNTED, PROMPT, 3)
    assert provider.answers[0].aborted


async def test_the_deadline_holds_over_all_attempts(run, provider: FakeProvider):
    plan = a_plan(
        a_candidate("timeout"), a_candidate("timeout"), a_candidate(), deadline=0.02, first_byte_timeout=0.015
    )

    said = await run_to_the_end(run(plan))

    assert provider.opened == ["timeout", "timeout"]
    assert said.finished.failure is not None
    assert said.finished.failure.reason == "UPSTREAM_TIMED_OUT"
    assert [attempt.outcome for attempt in said.finished.attempts] == [Outcome.TIMED_OUT] * 2


async def test_the_deadline_ends_a_stream_too(run):
    said = await run_to_the_end(run(a_plan(a_candidate("silent"), deadline=0.02)))

    assert said.finished.failure is not None
    assert said.finished.failure.reason == "UPSTREAM_TIMED_OUT"


async def test_a_slow_reader_does_not_use_up_the_idle_time(run):
    said = await run_to_the_end(run(a_plan(a_candidate(), idle_timeout=0.02)), lambda _: asyncio.sleep(0.03))

    assert said.finished.failure is None


async def test_usage_that_the_upstream_does_not_report_is_counted(run):
    said = await run_to_the_end(run(a_plan(a_candidate("no-usage"))))

    assert said.finished.attempts[0].usage == Usage(UsageSource.COUNTED, PROMPT, 8)
    assert said.finished.usage_payload == b""


async def test_a_whole_answer_is_counted_like_a_streamed_one(run):
    said = await run_to_the_end(run(a_plan(a_candidate("no-usage", stream=False), stream=False)))

    assert said.finished.attempts[0].usage == Usage(UsageSource.COUNTED, PROMPT, 8)


async def test_of_an_answer_that_broke_off_only_what_was_not_reported_is_counted(run, provider: FakeProvider):
    async def then(_: object) -> None:
        # As Anthropic does: the prompt's tokens come first, the answer's at its end.
        provider.answers[0].usage = Usage(UsageSource.REPORTED, 100, None)

    said = await run_to_the_end(run(a_plan(a_candidate("cut"))), then)

    assert said.finished.attempts[0].usage == Usage(UsageSource.COUNTED, 100, 3)


async def test_a_draining_worker_says_so(run):
    plan_run = run(a_plan(a_candidate("silent")))
    asyncio.get_running_loop().call_later(0.005, plan_run.stop, Draining("the worker is being stopped"))

    said = await run_to_the_end(plan_run)

    assert said.finished.failure is not None
    assert said.finished.failure.reason == "SERVICE_UNAVAILABLE"
    assert said.finished.attempts[0].outcome is Outcome.CANCELLED


async def test_what_cannot_be_counted_is_unknown(provider: FakeProvider, journal: FakeJournal, clock: FakeClock):
    class NoCounter:
        async def count(self, texts):
            return None

    upstreams = {"fake": Upstream(NoCounter(), provider=provider)}
    run = PlanRun(a_plan(a_candidate("no-usage")), upstreams=upstreams, clock=clock, journal=journal)

    said = await run_to_the_end(run)

    assert said.finished.attempts[0].usage == UNKNOWN


async def test_stop_in_the_middle_breaks_off_the_upstream_and_counts_what_was_said(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate("silent"), a_candidate()))

    async def then(step: object) -> None:
        if isinstance(step, Chunk):
            asyncio.get_running_loop().call_soon(plan_run.stop)

    said = await run_to_the_end(plan_run, then)

    assert provider.answers[0].aborted
    assert provider.opened == ["silent"]
    assert said.finished.failure is not None
    assert said.finished.failure.reason == "STOPPED"
    assert said.finished.attempts[0].outcome is Outcome.CANCELLED
    assert said.finished.attempts[0].usage == Usage(UsageSource.COUNTED, PROMPT, 3)


async def test_stop_while_nobody_reads_aborts_the_upstream_at_once(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate()))

    async def then(step: object) -> None:
        if isinstance(step, Chunk):
            plan_run.stop()

            assert provider.answers[0].aborted

    said = await run_to_the_end(plan_run, then)

    assert said.finished.attempts[0].outcome is Outcome.CANCELLED


async def test_stop_before_the_first_byte_leaves_the_usage_unknown(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate("timeout"), a_candidate()))
    asyncio.get_running_loop().call_later(0.005, plan_run.stop)

    said = await run_to_the_end(plan_run)

    assert provider.opened == ["timeout"]
    assert said.finished.attempts[0].outcome is Outcome.CANCELLED
    assert said.finished.attempts[0].usage == UNKNOWN


async def test_stop_before_anything_was_sent_costs_nothing(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate()))
    plan_run.stop()

    said = await run_to_the_end(plan_run)

    assert provider.opened == []
    assert said.finished.attempts[0].outcome is Outcome.CANCELLED
    assert said.finished.attempts[0].usage == NOTHING


async def test_stop_after_the_end_changes_nothing(run):
    plan_run = run(a_plan(a_candidate()))

    said = await run_to_the_end(plan_run)
    plan_run.stop()

    assert said.finished.failure is None


async def test_a_cancelled_run_breaks_off_the_upstream_and_is_written_down(
    run, provider: FakeProvider, journal: FakeJournal
):
    task = asyncio.create_task(run_to_the_end(run(a_plan(a_candidate("silent")))))
    await until(lambda: provider.answers and not provider.answers[0].reads)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert provider.answers[0].aborted
    ((attempt, _),) = journal.ended
    assert attempt.outcome is Outcome.CANCELLED


async def test_a_run_that_nobody_can_be_told_of_breaks_off_the_upstream(
    run, provider: FakeProvider, journal: FakeJournal
):
    async def then(_: object) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await run_to_the_end(run(a_plan(a_candidate())), then)

    assert provider.answers[0].aborted
    assert len(journal.ended) == 1


async def test_a_bug_in_an_adapter_surfaces_and_is_written_down(journal: FakeJournal, clock: FakeClock):
    class Broken:
        async def open(self, candidate, *, stream):
            raise KeyError("bug")

    run = PlanRun(
        a_plan(a_candidate()),
        upstreams={"fake": Upstream(FakeCounter(), provider=Broken())},
        clock=clock,
        journal=journal,
    )

    with pytest.raises(KeyError):
        await run_to_the_end(run)

    assert len(journal.ended) == 1


async def test_every_attempt_is_begun_and_ended_in_the_journal(run, journal: FakeJournal):
    await run_to_the_end(run(a_plan(a_candidate("500"), a_candidate())))

    assert journal.begun == [("fake", 1), ("fake", 2)]
    assert [failure and failure.reason for _, failure in journal.ended] == ["UPSTREAM_FAILED", None]


async def test_times_are_measured_from_sending(run, clock: FakeClock):
    async def then(_: object) -> None:
        clock.advance(timedelta(seconds=1))

    said = await run_to_the_end(run(a_plan(a_candidate())), then)

    attempt = said.finished.attempts[0]
    # Neither the first byte nor the end waited for us; the reader took a second for each of three steps in between.
    assert attempt.first_byte_after == timedelta(0)
    assert attempt.duration == timedelta(seconds=3)
