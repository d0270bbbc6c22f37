"""Ends of jobs and of their runs, on a real Postgres."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from argosy.metering.v1.events_pb2 import UsageRecorded
from argosy.orchestration.v1.events_pb2 import JobFinished
from chassis.errors import Unavailable
from chassis.postgres import Database
from orchestrator.jobs.errors import JobLeaseLost, JobNotClaimable
from orchestrator.jobs.listing.postgres import PostgresJobReader
from orchestrator.jobs.model import Job, JobState, Lane, WaitReason
from orchestrator.jobs.postgres import PostgresJobStore
from orchestrator.jobs.settle import completed, died, ended_waiting
from orchestrator.usage.model import Attempt
from values.usage import TokenUsage, UsageSource

from services.orchestrator.tests.jobs_examples import (
    LEASE,
    POLICY,
    a_job,
    claim,
    dispatch,
    draw,
    only_run,
    running,
    submit,
    wrong_counters,
)

USED = (Attempt(1, 0, TokenUsage(UsageSource.REPORTED, 100, 50)),)


class TestEnd:
    async def test_a_job_that_succeeds_moves_and_is_settled_and_announced_once(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        (claimed,) = await running(store)
        end = completed(await only_run(store, claimed), USED, b'{"ok":true}', POLICY, draw())

        first, second = await store.end_runs([end, end])
        (third,) = await store.end_runs([end])

        assert isinstance(first, Job)
        assert [type(second), type(third)] == [JobLeaseLost, JobLeaseLost]
        assert (first.state, first.cost, first.crashes) == (JobState.SUCCEEDED, 100 * 50 + 50 * 200, 0)
        assert await owner.fetchval("SELECT count(*) FROM jobs") == 0
        row = await owner.fetchrow("SELECT * FROM finished_jobs")
        assert (row["result"], row["epoch"]) == (b'{"ok":true}', claimed.run.epoch)
        assert row["expires_at"] - row["finished_at"] == timedelta(days=3)
        events = await owner.fetch("SELECT topic, value, request_id FROM outbox WHERE topic NOT LIKE '%dispatched%'")
        by_topic = {row["topic"]: row for row in events}
        assert len(events) == len(by_topic) == 2
        usage = by_topic["argosy.metering.usage-recorded.v1"]
        assert usage["request_id"] == UsageRecorded.FromString(usage["value"]).request_id == claimed.run.request_id
        finished = JobFinished.FromString(by_topic["argosy.orchestration.job-finished.v1"]["value"])
        assert (finished.job.id, finished.job.result, finished.job.usage.input_tokens) == (first.job_id, b"", 100)
        assert not await wrong_counters(owner)

    async def test_a_page_of_a_batch_ends_where_its_results_get_large(
        self, store: PostgresJobStore, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("orchestrator.jobs.listing.postgres.MAX_PAGE_BYTES", 1000)
        claimed = await running(store, *(a_job(batch_id="batch_1", custom_id=str(index)) for index in range(5)))
        results = [b"x" * size for size in (400, 600, 5000, 3, 3)]
        by_id = sorted(claimed, key=lambda one: one.run.job_id)
        for one, result in zip(by_id, results, strict=True):
            await store.end_runs([completed(await only_run(store, one), USED, result, POLICY, draw())])

        reader, after, pages = PostgresJobReader(database), "", []
        while page := await reader.list_finished("ten_1", "batch_1", after, 4):
            pages.append([job.result for job in page])
            after = page[-1].job_id

        assert pages == [results[:3], results[3:]]

    async def test_a_run_of_an_older_epoch_cannot_end(self, store: PostgresJobStore, owner: Any) -> None:
        (claimed,) = await running(store)
        stale = await only_run(store, claimed)
        await owner.execute("UPDATE jobs SET due_at = now()")
        (overdue,) = await store.overdue_runs(10)
        await store.end_runs([died(overdue, POLICY, draw())])
        await claim(store, [one.run for one in await dispatch(store)])

        (result,) = await store.end_runs([completed(stale, USED, b"{}", POLICY, draw())])

        assert isinstance(result, JobLeaseLost)
        assert await owner.fetchval("SELECT count(*) FROM finished_jobs") == 0

    async def test_a_dead_run_is_settled_with_unknown_usage_and_waits_again(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        (claimed,) = await running(store)
        await owner.execute("UPDATE jobs SET due_at = now(); DELETE FROM outbox")
        (overdue,) = await store.overdue_runs(10)

        (job,) = await store.end_runs([died(overdue, POLICY, draw())])

        assert isinstance(job, Job)
        assert (job.state, job.crashes, job.epoch) == (JobState.QUEUED, 1, claimed.run.epoch + 1)
        event = UsageRecorded.FromString(await owner.fetchval("SELECT value FROM outbox"))
        (attempt,) = event.attempts
        assert (event.request_id, attempt.attempt, attempt.price_version) == (claimed.run.request_id, 1, "prc_1")
        assert not attempt.usage.HasField("input_tokens")
        assert not await wrong_counters(owner)

    async def test_a_heartbeat_between_keeps_the_run(self, store: PostgresJobStore, owner: Any) -> None:
        (claimed,) = await running(store)
        await owner.execute("UPDATE jobs SET due_at = now()")
        (overdue,) = await store.overdue_runs(10)
        await store.heartbeat("wkr_1", "default", 1, [claimed.run], LEASE)

        (result,) = await store.end_runs([died(overdue, POLICY, draw())])

        assert isinstance(result, JobLeaseLost)
        assert await store.running([claimed.run]) != [None]

    async def test_three_deaths_quarantine_a_job_and_an_operator_retries_it(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        (claimed,) = await running(store)
        for _ in range(3):
            await owner.execute("UPDATE jobs SET due_at = now()")
            (overdue,) = await store.overdue_runs(10)
            (job,) = await store.end_runs([died(overdue, POLICY, draw())])
            await claim(store, [one.run for one in await dispatch(store)])

        assert isinstance(job, Job)
        assert (job.state, job.crashes) == (JobState.QUARANTINED, 3)
        assert not await wrong_counters(owner)
        retried = await store.retry_quarantined(claimed.job.ref.key, timedelta(hours=2))
        assert retried is not None
        assert (retried.state, retried.crashes, retried.errors) == (JobState.QUEUED, 0, 0)
        assert await store.retry_quarantined(claimed.job.ref.key, timedelta(hours=2)) is None
        assert len(await dispatch(store)) == 1
        assert not await wrong_counters(owner)

    async def test_a_failed_run_waits_for_its_delay(self, store: PostgresJobStore) -> None:
        (claimed,) = await running(store)
        end = completed(await only_run(store, claimed), USED, Unavailable("the provider is down"), POLICY, draw())

        (job,) = await store.end_runs([end])

        assert isinstance(job, Job)
        assert (job.state, job.errors, job.crashes) == (JobState.QUEUED, 1, 0)
        assert job.state_reason == WaitReason.RETRY
        assert await dispatch(store) == []

    async def test_a_cancellation_that_came_since_refuses_the_end(self, store: PostgresJobStore) -> None:
        (claimed,) = await running(store)
        run = await only_run(store, claimed)
        await store.request_cancel(claimed.run)

        (refused,) = await store.end_runs([completed(run, USED, b"{}", POLICY, draw())])
        again = completed(await only_run(store, claimed), USED, b"{}", POLICY, draw())
        (job,) = await store.end_runs([again])

        assert isinstance(refused, JobLeaseLost)
        assert isinstance(job, Job)
        assert job.state is JobState.CANCELLED

    async def test_a_waiting_job_is_cancelled_and_its_dispatch_is_not_claimable(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        await submit(store, a_job(), a_job(lane=Lane.BATCH))
        dispatched = await dispatch(store)
        for one in dispatched:
            found = await store.read(one.run.key)
            assert found is not None
            (job,) = await store.end_waiting([ended_waiting(found[0], JobState.CANCELLED, found[1])])
            assert isinstance(job, Job)

        results = await store.claim([(one.run, "wkr_1") for one in dispatched], LEASE)

        assert [type(result) for result in results] == [JobNotClaimable, JobNotClaimable]
        assert await owner.fetchval("SELECT count(*) FROM finished_jobs WHERE state = 'cancelled'") == 2
        assert not await wrong_counters(owner)

    async def test_jobs_past_their_deadline_are_found(self, store: PostgresJobStore) -> None:
        late, _ = await submit(store, a_job(deadline=timedelta(0)), a_job())

        jobs, now = await store.past_deadline(10)

        assert [job.job_id for job in jobs] == [late.job_id]
        assert now >= late.deadline_at

    async def test_a_result_that_is_kept_longer_than_any_before_gets_its_partition(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        (claimed,) = await running(store, a_job(retention=timedelta(days=40)))

        (job,) = await store.end_runs([completed(await only_run(store, claimed), USED, b"{}", POLICY, draw())])

        assert isinstance(job, Job)
        assert await owner.fetchval("SELECT expires_on - current_date FROM finished_jobs") == 40
