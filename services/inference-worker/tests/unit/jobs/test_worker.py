"""Jobs from their claim to the report of their end, over fakes."""

import asyncio
import json
from datetime import timedelta

import pytest
from chassis.errors import Internal, InvalidRequest, Kind, PermissionDenied, RemoteError, Unavailable
from inference_worker.jobs.model import NoWork, RunEnd, RunRef, RunResult, Unrunnable
from inference_worker.jobs.worker import MAX_STORE_FAILURES
from inference_worker.plans.model import AttemptOutcome
from job_fakes import FakedWorker, a_dispatch, an_embedding
from values.usage import ExposureCause, UsageSource
from worker_fakes import WORDS, a_candidate, a_plan, text_of

TEXT = "".join(WORDS)


@pytest.fixture
def faked() -> FakedWorker:
    return FakedWorker()


async def test_a_streamed_answer_is_completed_whole_and_its_chunks_are_deltas(faked: FakedWorker):
    end = await faked.do(a_plan(a_candidate()))

    result = faked.orchestrator.completed["job_1"]
    assert end is RunEnd.SUCCEEDED
    assert json.loads(result.body)["choices"][0]["message"]["content"] == TEXT
    assert json.loads(result.body)["usage"] == {"prompt_tokens": 2, "completion_tokens": 8}
    assert result.attempts[0].outcome is AttemptOutcome.SUCCEEDED
    run = RunRef("ten_a", "job_1", 2)
    assert text_of(faked.deltas.payloads[run]) == TEXT
    assert faked.deltas.ended == [run]
    assert faked.worker.runs == {}


async def test_an_answer_that_is_not_streamed_is_completed_as_the_provider_sent_it(faked: FakedWorker):
    await faked.do(a_plan(a_candidate(stream=False), stream=False))

    (completion,) = faked.provider.completions
    body = faked.orchestrator.completed["job_1"].body
    assert json.loads(body)["choices"][0]["message"]["content"] == TEXT
    assert body == faked.provider._buffered("instant").reads[0][0]
    assert completion.reads == []
    assert faked.deltas.payloads == {}


async def test_each_attempt_after_the_first_is_on_record_before_it_is_made(faked: FakedWorker):
    await faked.do(a_plan(a_candidate("500"), a_candidate("429"), a_candidate()))

    assert [attempt.number for attempt in faked.orchestrator.started] == [2, 3]
    assert [len(attempt.ended) for attempt in faked.orchestrator.started] == [1, 1]
    assert [attempt.candidate for attempt in faked.orchestrator.completed["job_1"].attempts] == [0, 1, 2]
    assert faked.orchestrator.calls == ["claim", "start_attempt", "start_attempt", "complete"]


async def test_an_attempt_waits_for_an_orchestrator_that_is_away(faked: FakedWorker):
    faked.orchestrator.failures["start_attempt"] = [Unavailable("away"), Unavailable("away")]

    assert await faked.do(a_plan(a_candidate("500"), a_candidate())) is RunEnd.SUCCEEDED
    assert faked.provider.opened == ["500", "instant"]


async def test_a_budget_that_is_spent_ends_the_run_at_once(faked: FakedWorker):
    faked.orchestrator.failures["start_attempt"] = [RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "spent")]

    assert await faked.do(a_plan(a_candidate("500"), a_candidate())) is RunEnd.FAILED
    assert faked.provider.opened == ["500"]
    assert faked.error().reason == "UPSTREAM_FAILED"


async def test_without_permission_no_provider_is_called(faked: FakedWorker):
    task = await faked.start(a_plan(a_candidate("500"), a_candidate()))
    faked.orchestrator.take_away("job_1")
    await task

    assert faked.provider.opened == ["500"]
    assert faked.observer.ends["job_1"] is RunEnd.LOST


async def test_embeddings_are_made_by_the_next_candidate_after_permission(faked: FakedWorker):
    await faked.do(an_embedding("500", "cut-before", "instant"))

    result = faked.orchestrator.completed["job_1"]
    assert faked.embedder.embedded == ["500", "cut-before", "cut-before", "instant"]
    assert [(a.number, a.candidate) for a in result.attempts] == [(1, 0), (2, 1), (3, 1), (4, 2)]
    assert [(a.number, a.candidate) for a in faked.orchestrator.started] == [(2, 1), (3, 1), (4, 2)]
    assert len(result.vectors) == 2
    assert result.error is None


async def test_embeddings_that_the_provider_rejects_end_at_once(faked: FakedWorker):
    assert await faked.do(an_embedding("400", "instant")) is RunEnd.FAILED

    assert faked.embedder.embedded == ["400"]
    assert faked.orchestrator.completed["job_1"].error is not None


async def test_a_failed_plan_is_completed_with_its_error(faked: FakedWorker):
    assert await faked.do(a_plan(a_candidate("cut"))) is RunEnd.FAILED

    result = faked.orchestrator.completed["job_1"]
    assert (result.body, faked.error().reason) == (b"", "UPSTREAM_INTERRUPTED")
    assert result.attempts[0].usage.source is UsageSource.COUNTED


async def test_what_cannot_be_claimed_is_dropped_and_what_needs_no_run_does_nothing(faked: FakedWorker):
    assert await faked.worker.claim(a_dispatch("job_unknown")) is None
    faked.orchestrator.work["job_1"] = NoWork("insufficient_quota")
    assert await faked.worker.claim(a_dispatch()) is None

    assert faked.observer.refused == ["job_unknown"]
    assert faked.orchestrator.completed == {}


async def test_a_claim_that_is_not_answered_is_for_the_consumer_to_repeat(faked: FakedWorker):
    faked.orchestrator.failures["claim"] = [Unavailable("away")]
    with pytest.raises(Unavailable):
        await faked.worker.claim(a_dispatch())


async def test_work_that_this_worker_cannot_read_fails_its_job_alone(faked: FakedWorker):
    end = await faked.do(Unrunnable(InvalidRequest("a candidate has no body", param="plan")))

    assert end is RunEnd.FAILED
    assert faked.error().message == "a candidate has no body"
    assert await faked.do(a_plan(a_candidate()), "job_2") is RunEnd.SUCCEEDED


async def test_a_bug_in_one_run_fails_its_job_and_no_other(faked: FakedWorker):
    faked.deltas.broken = "job_1"
    await asyncio.gather(faked.do(a_plan(a_candidate())), faked.do(a_plan(a_candidate()), "job_2"))

    result = faked.orchestrator.completed["job_1"]
    assert faked.error().reason == "INTERNAL"
    assert result.attempts[0].exposure_cause is ExposureCause.FLEET
    assert len(faked.observer.bugs) == 1
    assert faked.observer.ends == {"job_1": RunEnd.FAILED, "job_2": RunEnd.SUCCEEDED}


async def test_a_stream_that_cannot_be_put_together_is_stopped_and_fails(
    faked: FakedWorker, monkeypatch: pytest.MonkeyPatch
):
    stream = faked.provider._streamed("instant")
    stream.reads[0] = [b'{"choices": 7}']
    stream.hangs = True
    monkeypatch.setattr(faked.provider, "_streamed", lambda model: stream)

    assert await faked.do(a_plan(a_candidate())) is RunEnd.FAILED
    assert stream.aborted
    assert faked.error().reason == "UPSTREAM_INVALID_RESPONSE"


async def test_the_end_is_reported_until_it_is_acknowledged(faked: FakedWorker):
    faked.orchestrator.failures["complete"] = [Unavailable("away")] * 2 + [PermissionDenied("a bad secret")]

    assert await faked.do(a_plan(a_candidate())) is RunEnd.SUCCEEDED
    assert faked.orchestrator.calls.count("complete") == 4


async def test_an_answer_that_is_refused_for_good_becomes_an_error(faked: FakedWorker):
    faked.orchestrator.failures["complete"] = [InvalidRequest("too large")]

    await faked.do(a_plan(a_candidate()))

    result = faked.orchestrator.completed["job_1"]
    assert faked.error().message == "the answer could not be stored"
    assert result.attempts[0].outcome is AttemptOutcome.SUCCEEDED


async def test_the_error_of_an_answer_that_is_too_large_is_the_one_of_the_job(faked: FakedWorker):
    faked.orchestrator.failures["complete"] = [RemoteError(Kind.TOO_LARGE, "JOB_RESULT_TOO_LARGE", "ask for less")]

    await faked.do(a_plan(a_candidate()))

    assert (faked.error().reason, faked.error().message) == ("JOB_RESULT_TOO_LARGE", "ask for less")
    assert faked.orchestrator.completed["job_1"].attempts[0].outcome is AttemptOutcome.SUCCEEDED


async def test_a_report_that_is_never_accepted_does_not_hold_its_slot_for_ever(
    faked: FakedWorker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("inference_worker.jobs.worker.MAX_REPORT_SECONDS", 0.01)
    faked.orchestrator.failures["complete"] = [Internal("a bug")] * 100

    assert await faked.do(a_plan(a_candidate())) is RunEnd.UNREPORTED
    assert faked.worker.runs == {}
    assert faked.orchestrator.calls.count("complete") == 10


class SlowStore:
    """Each report times out; meanwhile heartbeats are answered, or not."""

    def __init__(self, faked: FakedWorker, *, beats: bool) -> None:
        self._faked = faked
        self._beats = beats
        self._complete = faked.orchestrator.complete

    async def __call__(self, run: RunRef, result: RunResult) -> None:
        if result.error is not None:
            return await self._complete(run, result)
        self._faked.orchestrator.calls.append("complete")
        if self._beats:
            self._faked.worker.runs[run].lease_until += 1
        raise Unavailable("the statement took too long")


@pytest.fixture
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_worker.jobs.worker.MAX_REPORT_SECONDS", 0.001)


@pytest.mark.usefixtures("short_backoff")
async def test_a_large_answer_that_is_never_stored_in_time_ends_its_job_with_an_error(
    faked: FakedWorker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("inference_worker.jobs.worker.LARGE_ANSWER_BYTES", 10)
    monkeypatch.setattr(faked.orchestrator, "complete", SlowStore(faked, beats=True))
    beats: list[int] = []
    faked.worker.on_unreported = lambda: beats.append(1)

    async with asyncio.timeout(30):
        assert await faked.do(a_plan(a_candidate())) is RunEnd.FAILED

    result = faked.orchestrator.completed["job_1"]
    assert (faked.error().kind, faked.error().reason) == (Kind.TOO_LARGE, "JOB_RESULT_NOT_STORED")
    assert result.attempts[0].outcome is AttemptOutcome.SUCCEEDED  # it is billed
    assert faked.orchestrator.calls.count("complete") == MAX_STORE_FAILURES + 1
    assert len(beats) == MAX_STORE_FAILURES


@pytest.mark.usefixtures("short_backoff")
@pytest.mark.parametrize(("large", "beats"), [(10, False), (10**6, True)])
async def test_while_the_store_is_away_and_when_the_answer_is_small_it_is_reported_on_and_on(
    faked: FakedWorker, monkeypatch: pytest.MonkeyPatch, large: int, *, beats: bool
):
    monkeypatch.setattr("inference_worker.jobs.worker.LARGE_ANSWER_BYTES", large)
    complete = faked.orchestrator.complete
    monkeypatch.setattr(faked.orchestrator, "complete", SlowStore(faked, beats=beats))
    task = await faked.start(a_plan(a_candidate()))
    await faked.orchestrator.until(lambda: faked.orchestrator.calls.count("claim") == 1)
    async with asyncio.timeout(30):
        while faked.orchestrator.calls.count("complete") < 4 * MAX_STORE_FAILURES:
            await asyncio.sleep(0.001)
    monkeypatch.setattr(faked.orchestrator, "complete", complete)
    await task

    assert faked.observer.ends["job_1"] is RunEnd.SUCCEEDED


@pytest.mark.parametrize("work", [a_plan(a_candidate("silent")), an_embedding("timeout")])
async def test_a_cancelled_job_is_stopped_and_completed_with_what_was_used(faked: FakedWorker, work):
    task = await faked.start(work)
    await faked.until_called()
    faked.worker.cancel(RunRef("ten_a", "job_1", 2))
    await task

    result = faked.orchestrator.completed["job_1"]
    assert faked.observer.ends["job_1"] is RunEnd.CANCELLED
    assert faked.error().kind.value == "cancelled"
    assert result.attempts[0].outcome is AttemptOutcome.CANCELLED
    if result.attempts[0].usage.source is UsageSource.UNKNOWN:
        assert result.attempts[0].exposure_cause is ExposureCause.CLIENT


async def test_a_cancellation_before_the_run_begins_is_not_lost(faked: FakedWorker):
    faked.orchestrator.work["job_1"] = a_plan(a_candidate("silent"))
    faked.worker.cancel(RunRef("ten_a", "job_1", 2))
    active = await faked.worker.claim(a_dispatch())
    assert active is not None
    await faked.worker.execute(active)

    assert faked.provider.opened == []
    assert faked.observer.ends["job_1"] is RunEnd.CANCELLED


@pytest.mark.parametrize("ref", [RunRef("ten_b", "job_1", 2), RunRef("ten_a", "job_1", 4), RunRef("ten_a", "job_2", 2)])
async def test_a_cancellation_of_another_run_stops_nothing(faked: FakedWorker, ref: RunRef):
    task = await faked.start(a_plan(a_candidate()))
    faked.worker.cancel(ref)
    await task

    assert faked.observer.ends["job_1"] is RunEnd.SUCCEEDED


async def test_cancellations_of_unknown_runs_are_kept_in_bounded_memory(faked: FakedWorker):
    for number in range(5000):
        faked.worker.cancel(RunRef("ten_a", f"job_{number}", 2))

    assert len(faked.worker._cancelled) == 1000


async def test_a_drain_lets_runs_finish_and_hands_the_rest_back(faked: FakedWorker):
    hangs = await faked.start(a_plan(a_candidate("silent")), "job_1")
    embeds = await faked.start(an_embedding("timeout"), "job_2")
    await faked.until_called(2)

    faked.worker.begin_drain(return_after=timedelta(seconds=0.2), exit_after=timedelta(seconds=60))
    assert faked.worker.slots == 0
    assert await faked.do(a_plan(a_candidate()), "job_3") is RunEnd.SUCCEEDED
    await asyncio.gather(hangs, embeds)

    assert faked.observer.ends == {"job_1": RunEnd.RETURNED, "job_2": RunEnd.RETURNED, "job_3": RunEnd.SUCCEEDED}
    (attempt,) = faked.orchestrator.returned["job_1"]
    assert (attempt.outcome, attempt.usage.source) == (AttemptOutcome.CANCELLED, UsageSource.COUNTED)
    (attempt,) = faked.orchestrator.returned["job_2"]
    assert attempt.exposure_cause is ExposureCause.FLEET
    # A claim that was in flight comes back without a provider call.
    assert await faked.do(a_plan(a_candidate()), "job_4") is RunEnd.RETURNED
    assert len(faked.provider.opened) == 2


async def test_reports_end_when_the_process_has_to_exit(faked: FakedWorker):
    faked.orchestrator.failures["complete"] = [Unavailable("away")] * 1000
    faked.worker.begin_drain(return_after=timedelta(0), exit_after=timedelta(seconds=0.3))
    task = await faked.start(a_plan(a_candidate()))
    await task

    assert faked.observer.ends["job_1"] in {RunEnd.UNREPORTED, RunEnd.RETURNED}


async def test_a_run_whose_lease_is_lost_reports_once_and_is_lost(faked: FakedWorker):
    task = await faked.start(a_plan(a_candidate()))
    faked.orchestrator.take_away("job_1")
    await task

    assert faked.observer.ends["job_1"] is RunEnd.LOST
    assert faked.orchestrator.calls == ["claim", "complete"]
    assert faked.orchestrator.completed == {}


async def test_a_claim_after_one_without_an_answer_says_so(faked: FakedWorker):
    faked.orchestrator.work["job_1"] = a_plan(a_candidate())
    faked.orchestrator.failures["claim"] = [Unavailable("no answer")]

    with pytest.raises(Unavailable):
        await faked.worker.claim(a_dispatch())
    active = await faked.worker.claim(a_dispatch())

    assert active is not None
    assert await faked.worker.claim(a_dispatch()) is None
    assert faked.orchestrator.unanswered == [False, True]


async def test_a_dispatch_that_comes_twice_at_once_is_claimed_once(faked: FakedWorker):
    faked.orchestrator.work["job_1"] = a_plan(a_candidate())

    claims = await asyncio.gather(faked.worker.claim(a_dispatch()), faked.worker.claim(a_dispatch()))

    assert [claim is not None for claim in claims] == [True, False]
    assert faked.orchestrator.unanswered == [False]
