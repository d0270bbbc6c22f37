"""Claims whose answer was lost."""

from __future__ import annotations

import pytest
from orchestrator.jobs.errors import JobNotClaimable
from orchestrator.jobs.model import JobState

from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.jobs_harness import JobsHarness


async def test_a_claim_whose_answer_was_lost_is_handed_back_without_a_crash(jobs: JobsHarness) -> None:
    await jobs.submit()
    (dispatch,) = await jobs.dispatch()
    await jobs.claims.claim(dispatch, "wkr_1")  # its answer is lost

    with pytest.raises(JobNotClaimable):
        await jobs.claims.claim(dispatch, "wkr_1", unanswered_before=True)

    job = await jobs.job(dispatch.key)
    assert (job.state, job.crashes, job.errors) == (JobState.QUEUED, 0, 0)
    assert (await jobs.claim()).work is not None


async def test_the_run_of_another_worker_is_not_handed_back(jobs: JobsHarness) -> None:
    await jobs.submit()
    (dispatch,) = await jobs.dispatch()
    await jobs.claims.claim(dispatch, "wkr_2")

    with pytest.raises(JobNotClaimable):
        await jobs.claims.claim(dispatch, "wkr_1", unanswered_before=True)

    assert (await jobs.job(dispatch.key)).state is JobState.RUNNING


async def test_a_claim_that_was_never_received_is_granted_the_second_time(jobs: JobsHarness) -> None:
    await jobs.submit()
    (dispatch,) = await jobs.dispatch()

    assert (await jobs.claims.claim(dispatch, "wkr_1", unanswered_before=True)).work is not None


async def test_a_job_of_a_dead_worker_is_dispatched_by_the_reaper_itself(
    jobs: JobsHarness, store: InMemoryJobStore
) -> None:
    claimed = await jobs.start()
    store.rows[claimed.run.key].due_at = store.now()
    await jobs.runs.heartbeat("wkr_2", "default", 1, ())

    await jobs.reaper.run_once()

    job = await jobs.job(claimed.run.key)
    assert (job.state, job.crashes) == (JobState.DISPATCHED, 1)
