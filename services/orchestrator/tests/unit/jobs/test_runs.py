"""The life of a job: claimed, prepared, run, settled."""

from __future__ import annotations

import asyncio
import json
import struct
from datetime import timedelta

import pytest
from chassis.errors import Kind, RemoteError, Unavailable
from chassis.tenancy import find_caller
from orchestrator.chat.model import Stopped
from orchestrator.context.model import Passage
from orchestrator.jobs.errors import JobFinished, JobLeaseLost, JobNotClaimable, JobNotFound, JobNotQuarantined
from orchestrator.jobs.model import JobKey, JobState, RunRef
from orchestrator.usage.model import Attempt, RequestUsage
from orchestrator.workers.model import AttemptStarting, EmbeddingPlan, Plan
from values.usage import ExposureCause

from services.orchestrator.tests.harness import reported
from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.in_memory_jobs.tables import VirtualClock
from services.orchestrator.tests.jobs_examples import BODY
from services.orchestrator.tests.jobs_harness import ANSWER, USED, JobsHarness

NO_MONEY = RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent")


def usages(store: InMemoryJobStore) -> list[RequestUsage]:
    return [event for event in store.outbox if isinstance(event, RequestUsage)]


async def test_a_claim_prepares_a_plan_and_reserves_as_the_jobs_own_principal(jobs: JobsHarness) -> None:
    seen = []
    jobs.peers.metering.on_reserve = lambda: seen.append(find_caller())

    claimed = await jobs.start()

    assert claimed.work is not None
    assert isinstance(claimed.work.plan, Plan)
    assert claimed.work.plan.request_id == claimed.run.request_id
    assert list(jobs.peers.metering.reserved) == [claimed.run.request_id]
    (caller,) = seen
    assert caller is not None
    assert (caller.principal.tenant_id, caller.request_id) == (claimed.run.tenant_id, claimed.run.request_id)
    assert (await jobs.job(claimed.run.key)).state is JobState.RUNNING


async def test_a_claim_adds_the_context_of_its_time(jobs: JobsHarness) -> None:
    body = json.loads(BODY) | {"argosy": {"retrieval": {"vector_store_ids": ["vs_1"]}}}
    await jobs.submit(json.dumps(body).encode())
    assert jobs.peers.retrieval.searches == []
    jobs.peers.retrieval.passages = [Passage("file_1", "crew.pdf", 3, "Jason sails it.", 0.9)]

    claimed = await jobs.claim()

    assert claimed.work is not None
    assert isinstance(claimed.work.plan, Plan)
    assert b"Jason sails it." in claimed.work.plan.candidates[0].body


async def test_a_run_that_succeeds_is_settled_and_repeating_it_changes_nothing(
    jobs: JobsHarness, store: InMemoryJobStore
) -> None:
    claimed = await jobs.start()

    first = await jobs.runs.complete(claimed.run, USED, ANSWER)
    second = await jobs.runs.complete(claimed.run, USED, ANSWER)

    assert (first, second) == (JobState.SUCCEEDED, JobState.SUCCEEDED)
    (usage,) = usages(store)
    assert (usage.request_id, usage.attempts[0].usage) == (claimed.run.request_id, reported(100, 50))
    assert (await jobs.job(claimed.run.key)).cost == 100 * 50 + 50 * 200
    assert jobs.signals.states == ["queued", "running", "succeeded"]


async def test_embeddings_are_answered_in_openais_shape(jobs: JobsHarness, store: InMemoryJobStore) -> None:
    claimed = await jobs.start(body=b'{"model":"all-minilm-l6-v2","input":["one","two"]}', endpoint="/v1/embeddings")
    assert claimed.work is not None
    assert isinstance(claimed.work.plan, EmbeddingPlan)
    assert claimed.work.plan.refuse_truncation

    vectors = (struct.pack("<2f", 0.5, -0.5), struct.pack("<2f", 1, 0))
    state = await jobs.runs.complete(claimed.run, (Attempt(1, 0, reported(4, 0)),), vectors)

    assert state is JobState.SUCCEEDED
    job = await store.get(claimed.run.key)
    assert job is not None
    answer = json.loads(job.result)
    assert [one["embedding"] for one in answer["data"]] == [[0.5, -0.5], [1.0, 0.0]]
    assert (answer["model"], answer["usage"]["prompt_tokens"]) == ("all-minilm-l6-v2", 4)


async def test_a_worker_that_leaves_during_the_claim_costs_no_attempt(
    jobs: JobsHarness, store: InMemoryJobStore
) -> None:
    jobs.peers.metering.gate = asyncio.Event()
    await jobs.submit()
    (dispatch,) = await jobs.dispatch()
    claim = asyncio.create_task(jobs.claims.claim(dispatch, "wkr_1"))
    while (
        jobs.peers.tasks.detached == 0
        and not claim.done()
        and (await jobs.job(dispatch.key)).state is not JobState.RUNNING
    ):
        await asyncio.sleep(0)
    claim.cancel()
    await asyncio.wait([claim])
    jobs.peers.metering.gate.set()
    await jobs.peers.tasks.wait_idle()

    job = await jobs.job(dispatch.key)
    assert (job.state, job.crashes, job.errors) == (JobState.QUEUED, 0, 0)
    assert [usage.attempts for usage in usages(store)] == [()]


async def test_an_old_dispatch_is_not_claimable(jobs: JobsHarness) -> None:
    claimed = await jobs.start()

    with pytest.raises(JobNotClaimable):
        await jobs.claims.claim(claimed.run._replace(epoch=claimed.run.epoch - 1), "wkr_2")


async def test_a_further_attempt_is_on_record_before_it_is_made_and_repeating_it_is_safe(
    jobs: JobsHarness, store: InMemoryJobStore
) -> None:
    claimed = await jobs.start()
    first = Attempt(1, 0, reported(10, 0))
    starting = AttemptStarting(2, 0, (first,))

    await jobs.runs.start_attempt(claimed.run, starting)
    await jobs.runs.start_attempt(claimed.run, starting)

    (start,) = jobs.peers.metering.starts
    assert (start.request_id, start.number, len(start.ended)) == (claimed.run.request_id, 2, 1)
    (run,) = await store.running([claimed.run])
    assert run is not None
    assert run.record is not None
    assert (run.record.running, run.record.ended, run.record.unmade) == ((2, 0), (first,), ())


async def test_a_refused_attempt_is_released_when_the_run_ends(jobs: JobsHarness, store: InMemoryJobStore) -> None:
    claimed = await jobs.start()
    jobs.peers.metering.start_failure = Unavailable("metering is down")

    with pytest.raises(Unavailable):
        await jobs.runs.start_attempt(claimed.run, AttemptStarting(2, 0, USED))
    await jobs.runs.complete(claimed.run, USED, Unavailable("upstream"))

    (usage,) = usages(store)
    assert [attempt.number for attempt in usage.attempts] == [1, 2]
    assert usage.attempts[1].usage.known == (0, 0)


async def test_no_attempt_is_made_for_a_job_that_is_being_cancelled(jobs: JobsHarness) -> None:
    claimed = await jobs.start()
    await jobs.cancellations.cancel(claimed.run.key)

    with pytest.raises(Stopped):
        await jobs.runs.start_attempt(claimed.run, AttemptStarting(2, 0, USED))


async def test_a_cancelled_run_is_settled_with_what_was_used(jobs: JobsHarness, store: InMemoryJobStore) -> None:
    claimed = await jobs.start()

    job = await jobs.cancellations.cancel(claimed.run.key)
    beat = await jobs.runs.heartbeat("wkr_1", "default", 10, [claimed.run])
    state = await jobs.runs.complete(claimed.run, USED, Stopped("stopped"))

    assert (job.state, job.cancel_requested) == (JobState.RUNNING, True)
    assert jobs.signals.cancelled == [claimed.run]
    assert beat.cancelled == (claimed.run,)
    assert state is JobState.CANCELLED
    assert [one.usage for one in usages(store)[0].attempts] == [reported(100, 50)]
    with pytest.raises(JobFinished):
        await jobs.cancellations.cancel(claimed.run.key)


async def test_a_waiting_job_is_cancelled_at_once(jobs: JobsHarness) -> None:
    job = (await jobs.submit()).job

    cancelled = await jobs.cancellations.cancel(job.ref.key)

    assert cancelled.state is JobState.CANCELLED
    assert await jobs.dispatch() == []
    with pytest.raises(JobNotFound):
        await jobs.cancellations.cancel(JobKey("ten_2", job.job_id))


async def test_a_job_that_is_handed_back_runs_again_and_counts_nothing(
    jobs: JobsHarness, store: InMemoryJobStore
) -> None:
    claimed = await jobs.start()

    await jobs.runs.give_back(claimed.run, USED)
    await jobs.runs.give_back(claimed.run, USED)

    job = await jobs.job(claimed.run.key)
    assert (job.state, job.errors, job.crashes) == (JobState.QUEUED, 0, 0)
    assert len(usages(store)) == 1
    again = await jobs.claim()
    assert again.run.epoch == claimed.run.epoch + 2
    with pytest.raises(JobLeaseLost):
        await jobs.runs.complete(claimed.run, USED, ANSWER)


async def test_errors_that_pass_are_retried_five_times(jobs: JobsHarness, clock: VirtualClock) -> None:
    claimed = await jobs.start()
    for number in range(1, 5):
        assert await jobs.runs.complete(claimed.run, USED, Unavailable("down")) is JobState.QUEUED
        assert (await jobs.job(claimed.run.key)).errors == number
        clock.advance(timedelta(minutes=6))
        claimed = await jobs.claim()

    assert await jobs.runs.complete(claimed.run, USED, Unavailable("down")) is JobState.FAILED
    job = await jobs.job(claimed.run.key)
    assert job.error is not None
    assert (job.errors, job.error.reason) == (5, "SERVICE_UNAVAILABLE")
    assert job.cost == 5 * (100 * 50 + 50 * 200)


async def test_a_dead_worker_is_reaped_and_its_call_is_exposure_of_the_fleet(
    jobs: JobsHarness, store: InMemoryJobStore, clock: VirtualClock
) -> None:
    claimed = await jobs.start()
    clock.advance(timedelta(seconds=16))

    await jobs.reaper.run_once()

    (usage,) = usages(store)
    assert [one.exposure_cause for one in usage.attempts] == [ExposureCause.FLEET]
    job = await jobs.job(claimed.run.key)
    assert (job.state, job.crashes) == (JobState.QUEUED, 1)
    with pytest.raises(JobLeaseLost):
        await jobs.runs.complete(claimed.run, USED, ANSWER)
    assert (await jobs.runs.heartbeat("wkr_1", "default", 1, [claimed.run])).lost == (claimed.run,)


async def test_a_job_that_kills_three_workers_is_quarantined_until_an_operator_decides(
    jobs: JobsHarness, clock: VirtualClock
) -> None:
    key = (await jobs.submit()).job.ref.key
    with pytest.raises(JobNotQuarantined):
        await jobs.cancellations.retry(key)
    for _ in range(3):
        await jobs.claim()
        clock.advance(timedelta(seconds=16))
        await jobs.reaper.run_once()

    assert (await jobs.job(key)).state is JobState.QUARANTINED
    assert await jobs.dispatch() == []
    assert (await jobs.cancellations.retry(key)).state is JobState.QUEUED
    with pytest.raises(JobNotQuarantined):
        await jobs.cancellations.drop(key)


async def test_the_neighbours_of_a_job_that_kills_its_workers_are_not_quarantined_with_it(
    jobs: JobsHarness, clock: VirtualClock
) -> None:
    """All of them run at once on one worker, longer than the poison needs to kill it."""
    keys = [(await jobs.submit()).job.ref.key for _ in range(8)]
    poison, *healthy = keys
    deaths = 0
    for _ in range(20):
        claimed = [await jobs.claims.claim(run, "wkr_1") for run in await jobs.dispatch()]
        if poison in {one.run.key for one in claimed}:
            deaths += 1
            clock.advance(timedelta(seconds=16))
            await jobs.reaper.run_once()
        else:
            for one in claimed:
                await jobs.runs.complete(one.run, USED, ANSWER)

    assert deaths == 3
    assert (await jobs.job(poison)).state is JobState.QUARANTINED
    assert {(await jobs.job(key)).state for key in healthy} == {JobState.SUCCEEDED}


async def test_a_quarantined_job_that_is_dropped_has_failed(jobs: JobsHarness, clock: VirtualClock) -> None:
    key = (await jobs.submit()).job.ref.key
    for _ in range(3):
        await jobs.claim()
        clock.advance(timedelta(seconds=16))
        await jobs.reaper.run_once()

    dropped = await jobs.cancellations.drop(key)

    assert dropped.state is JobState.FAILED
    assert dropped.error is not None
    assert dropped.error.reason == "JOB_DROPPED"


async def test_a_job_fails_at_its_deadline(jobs: JobsHarness, clock: VirtualClock) -> None:
    job = (await jobs.submit(deadline=timedelta(minutes=1))).job
    clock.advance(timedelta(minutes=2))

    await jobs.reaper.run_once()

    late = await jobs.job(job.ref.key)
    assert late.error is not None
    assert (late.state, late.error.reason) == (JobState.FAILED, "JOB_DEADLINE_EXCEEDED")


async def test_a_claim_without_a_record_is_released_when_its_process_dies(
    jobs: JobsHarness, store: InMemoryJobStore, clock: VirtualClock
) -> None:
    await jobs.submit()
    (dispatch,) = await jobs.dispatch()
    await store.claim([(dispatch, "wkr_1")], timedelta(seconds=15))
    clock.advance(timedelta(seconds=16))

    await jobs.reaper.run_once()

    (usage,) = usages(store)
    assert (usage.request_id, usage.attempts) == (RunRef(*dispatch.key, 2).request_id, ())
