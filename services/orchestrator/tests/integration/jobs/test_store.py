"""The state of jobs, on a real Postgres."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from argosy.orchestration.v1.events_pb2 import JobDispatched
from chassis.postgres import Database
from orchestrator.jobs.errors import JobIdReused, JobLeaseLost, JobNotClaimable, QueueFull
from orchestrator.jobs.model import Job, JobKey, JobState, Lane
from orchestrator.jobs.postgres import LARGE_RESULT_BYTES, PostgresJobStore
from orchestrator.jobs.runs import ClaimedJob
from orchestrator.jobs.settle import completed, returned
from orchestrator.usage.model import Attempt
from values.usage import TokenUsage, UsageSource

from services.orchestrator.tests.jobs_examples import (
    LEASE,
    POLICY,
    RECORD,
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


class TestSubmit:
    async def test_a_job_is_queued_with_all_that_was_said(self, store: PostgresJobStore, owner: Any) -> None:
        new = a_job(batch_id="batch_1", custom_id="line 1", lane=Lane.BATCH)

        (job,) = await submit(store, new)

        found = await store.read(new.key)
        assert found is not None
        assert found[0] == job
        assert (job.state, job.lane, job.batch_id, job.custom_id) == (JobState.QUEUED, Lane.BATCH, "batch_1", "line 1")
        assert job.deadline_at - job.created_at == timedelta(hours=1)
        row = await owner.fetchrow("SELECT * FROM jobs")
        assert (row["body"], json.loads(row["metadata"]), row["key_id"]) == (new.body, {"for": "tests"}, "key_1")
        assert not await wrong_counters(owner)

    async def test_the_same_job_again_is_there_once(self, store: PostgresJobStore, owner: Any) -> None:
        new = a_job()

        first, second = await store.submit([new, new])
        (third,) = await store.submit([new])

        assert first == second == third
        assert await owner.fetchval("SELECT count(*) FROM jobs") == 1
        assert not await wrong_counters(owner)

    async def test_an_id_with_another_request_is_refused_also_when_its_job_has_finished(
        self, store: PostgresJobStore
    ) -> None:
        new = a_job()
        (claimed,) = await running(store, new)
        other = replace(new, fingerprint=b"other")
        (refused,) = await store.submit([other])
        await store.end_runs([completed(await only_run(store, claimed), USED, b"{}", POLICY, draw())])

        (refused_later,) = await store.submit([other])
        (known,) = await store.submit([new])

        assert isinstance(refused, JobIdReused)
        assert isinstance(refused_later, JobIdReused)
        assert isinstance(known, Job)
        assert known.state is JobState.SUCCEEDED

    async def test_no_more_jobs_wait_than_the_plan_allows(self, store: PostgresJobStore, owner: Any) -> None:
        jobs = [a_job(max_queued=3) for _ in range(3)]
        more = [a_job(max_queued=3), a_job("ten_2", max_queued=3)]

        results = await store.submit([*jobs, *more])

        assert [type(result) for result in results] == [Job, Job, Job, QueueFull, Job]
        assert isinstance((await store.submit([a_job(max_queued=3, lane=Lane.BATCH)]))[0], QueueFull)
        await dispatch(store)
        assert isinstance((await store.submit([a_job(max_queued=3)]))[0], Job)
        assert not await wrong_counters(owner)

    async def test_one_that_cannot_be_stored_does_not_harm_the_others(self, store: PostgresJobStore) -> None:
        results_of_calls = await asyncio.gather(
            store.submit([a_job()]),
            store.submit([a_job()]),
            store.submit([a_job(custom_id="\0")]),
            store.submit([a_job(), a_job(metadata={"\0": ""})]),
        )

        stored = [isinstance(result, Job) for results in results_of_calls for result in results]
        assert stored == [True, True, False, True, False]

    async def test_concurrent_submissions_share_transactions(self, store: PostgresJobStore, owner: Any) -> None:
        await asyncio.gather(*(store.submit([a_job(f"ten_{n % 7}")]) for n in range(200)))

        assert await owner.fetchval("SELECT count(*) FROM jobs") == 200
        assert await owner.fetchval("SELECT count(DISTINCT xmin::text) FROM jobs") < 50
        assert not await wrong_counters(owner)


class TestDispatch:
    async def test_a_due_job_is_announced_on_the_topic_of_its_lane(self, store: PostgresJobStore, owner: Any) -> None:
        new = a_job(lane=Lane.INTERACTIVE)
        await submit(store, new)

        (dispatched,) = await dispatch(store)

        row = await owner.fetchrow("SELECT * FROM outbox")
        event = JobDispatched.FromString(row["value"])
        assert row["topic"] == "argosy.orchestration.job-dispatched.v1.default.interactive"
        assert json.loads(row["headers"]) == {"argosy-record-key": f"{new.job_id}.1"}
        assert (event.meta.tenant_id, event.job_id, event.epoch) == ("ten_1", new.job_id, dispatched.run.epoch)
        assert dispatched.run.epoch == 1
        assert not await wrong_counters(owner)

    async def test_a_round_is_written_once(self, store: PostgresJobStore, owner: Any) -> None:
        await submit(store, *(a_job(f"ten_{n % 3}") for n in range(60)))

        rounds = await asyncio.gather(*(dispatch(store, slots=10) for _ in range(5)))

        jobs = [one.run.job_id for dispatched in rounds for one in dispatched]
        # A round leaves one of eight places to the lane above.
        assert len(jobs) == len(set(jobs)) == 18
        assert await owner.fetchval("SELECT count(*) FROM jobs WHERE state = 'dispatched'") == 18
        assert not await wrong_counters(owner)

    async def test_without_live_workers_nothing_is_dispatched(self, store: PostgresJobStore, owner: Any) -> None:
        await submit(store, a_job())
        assert await store.waiting() == []

        await store.heartbeat("wkr_1", "default", 4, (), LEASE)
        await owner.execute("UPDATE job_workers SET seen_at = now() - interval '16 seconds'")

        assert await store.waiting() == []

    @pytest.mark.parametrize(
        ("tenant", "pool", "model"), [("ten_1", "", ""), ("*", "default", ""), ("*", "", "smollm2")]
    )
    async def test_what_is_paused_waits(
        self, store: PostgresJobStore, owner: Any, tenant: str, pool: str, model: str
    ) -> None:
        await submit(store, a_job())
        await owner.execute("INSERT INTO queue_pauses VALUES ($1, $2, $3)", tenant, pool, model)

        assert await dispatch(store) == []
        await owner.execute("DELETE FROM queue_pauses")

        assert len(await dispatch(store)) == 1

    async def test_a_job_that_is_locked_is_skipped(self, store: PostgresJobStore, owner: Any) -> None:
        first, second = await submit(store, a_job(), a_job())

        async with owner.transaction():
            await owner.execute("SELECT FROM jobs WHERE job_id = $1 FOR UPDATE", first.job_id)
            dispatched = await dispatch(store)

        assert [one.run.job_id for one in dispatched] == [second.job_id]
        assert not await wrong_counters(owner)

    async def test_a_dispatch_that_no_worker_claims_is_queued_again(self, store: PostgresJobStore, owner: Any) -> None:
        await submit(store, a_job())
        (dispatched,) = await dispatch(store)
        assert await store.requeue_lost_dispatches(10) == []
        await owner.execute("UPDATE jobs SET due_at = now()")

        (job,) = await store.requeue_lost_dispatches(10)

        assert (job.state, job.errors, job.crashes) == (JobState.QUEUED, 0, 0)
        assert not await wrong_counters(owner)
        (again,) = await dispatch(store)
        assert again.run.epoch == 2
        assert isinstance((await store.claim([(dispatched.run, "wkr_1")], LEASE))[0], JobNotClaimable)


class TestClaim:
    async def test_a_claim_is_a_run_of_the_next_epoch_and_counts_as_a_crash(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        (claimed,) = await running(store)

        assert (claimed.run.epoch, claimed.job.state, claimed.job.crashes) == (2, JobState.RUNNING, 1)
        assert (claimed.principal.key_id, claimed.principal.plan) == ("key_1", "pro")
        assert claimed.run.request_id == await owner.fetchval("SELECT request_id FROM jobs")
        assert (await only_run(store, claimed)).record == RECORD
        assert not await wrong_counters(owner)

    async def test_of_two_claims_one_gets_the_job(self, store: PostgresJobStore) -> None:
        await submit(store, a_job())
        (dispatched,) = await dispatch(store)

        results = await asyncio.gather(
            *(store.claim([(dispatched.run, f"wkr_{number}")], LEASE) for number in range(4))
        )

        claimed = [result for (result,) in results if isinstance(result, ClaimedJob)]
        refused = [result for (result,) in results if isinstance(result, JobNotClaimable)]
        assert (len(claimed), len(refused)) == (1, 3)

    async def test_a_heartbeat_extends_leases_and_tells_what_is_lost_and_cancelled(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        kept, cancelled, lost = await running(store, a_job(), a_job(), a_job())
        await store.request_cancel(cancelled.run)
        await store.end_runs([returned(await only_run(store, lost), (), draw())])
        await owner.execute("UPDATE jobs SET due_at = now() WHERE state = 'running'")

        beat = await store.heartbeat("wkr_1", "default", 8, [kept.run, cancelled.run, lost.run], LEASE)

        assert (beat.lost, beat.cancelled) == ((lost.run,), (cancelled.run,))
        assert await store.overdue_runs(10) == []
        assert await owner.fetchval("SELECT slots FROM job_workers") == 8

    async def test_a_row_that_is_being_written_keeps_its_lease_and_holds_up_no_heartbeat(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        stored, other = await running(store, a_job(), a_job())
        await owner.execute("UPDATE jobs SET due_at = now() - interval '1 second' WHERE state = 'running'")
        async with owner.transaction():
            # As the end of a run does while it stores a large answer.
            await owner.execute("SELECT FROM jobs WHERE job_id = $1 FOR UPDATE", stored.run.job_id)
            async with asyncio.timeout(2):
                beat = await store.heartbeat("wkr_1", "default", 8, [stored.run, other.run], LEASE)

        assert (beat.lost, beat.cancelled) == ((), ())
        assert [run.job.job_id for run in await store.overdue_runs(10)] == [stored.run.job_id]
        await store.heartbeat("wkr_1", "default", 8, [stored.run, other.run], LEASE)
        assert await store.overdue_runs(10) == []

    async def test_a_lease_is_extended_before_a_large_answer_is_stored(
        self, store: PostgresJobStore, owner: Any
    ) -> None:
        (claimed,) = await running(store)
        answer = b"1" * (LARGE_RESULT_BYTES + 1)
        end = completed(await only_run(store, claimed), USED, answer, POLICY, draw())
        await owner.execute("UPDATE jobs SET due_at = now() WHERE state = 'running'")
        async with owner.transaction():
            # As a disk that is slow: the run's row stays locked until the answer is stored, or the statement ends.
            await owner.execute("LOCK TABLE finished_jobs")
            ending = asyncio.create_task(store.end_runs([end]))
            async with asyncio.timeout(2):
                while await store.overdue_runs(10):
                    await asyncio.sleep(0.01)

        (job,) = await ending
        assert isinstance(job, Job)
        assert job.state is JobState.SUCCEEDED

    async def test_runs_of_another_epoch_are_not_saved(self, store: PostgresJobStore) -> None:
        (claimed,) = await running(store)
        stale = claimed.run._replace(epoch=claimed.run.epoch - 1)

        results = await store.save_runs([(claimed.run, RECORD), (stale, RECORD)], LEASE)

        assert results[0] is None
        assert isinstance(results[1], JobLeaseLost)

    async def test_requests_of_running_jobs_are_known(self, store: PostgresJobStore) -> None:
        (claimed,) = await running(store)
        request = ("ten_1", claimed.run.request_id)

        assert await store.running_requests([request, ("ten_2", claimed.run.request_id)]) == {request}
        await store.end_runs([returned(await only_run(store, claimed), (), draw())])
        assert await store.running_requests([request]) == set()


async def test_partitions_are_made_ahead_and_expired_ones_dropped(store: PostgresJobStore, owner: Any) -> None:
    await owner.execute(
        "CREATE TABLE finished_jobs_20200101 (LIKE finished_jobs INCLUDING ALL);"
        "ALTER TABLE finished_jobs ATTACH PARTITION finished_jobs_20200101"
        " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
    )

    _, dropped = await store.keep_partitions(12)

    assert dropped == 1
    assert await store.keep_partitions(12) == (0, 0)
    partitions = await owner.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'finished_jobs'::regclass")
    assert partitions >= 13
    unprotected = await owner.fetchval(
        "SELECT count(*) FROM pg_class WHERE relname ~ '^finished_jobs_[0-9]+$' AND NOT relforcerowsecurity"
    )
    assert unprotected == 0
    compressed = await owner.fetchval(
        "SELECT count(*) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
        " WHERE c.relname ~ '^finished_jobs(_[0-9]+)?$' AND a.attname = 'result' AND a.attstorage <> 'e'"
    )
    assert compressed == 0


async def test_a_tenant_sees_its_own_jobs_only(store: PostgresJobStore, database: Database) -> None:
    await submit(store, a_job("ten_1"), a_job("ten_2"))

    async with database.tenant("ten_2") as connection:
        seen = await connection.fetch("SELECT tenant_id FROM jobs")

    assert [row["tenant_id"] for row in seen] == ["ten_2"]
    assert await store.read(JobKey("ten_3", "job_1")) is None


async def test_of_very_many_tenants_all_have_their_turn(store: PostgresJobStore, owner: Any) -> None:
    await submit(store, *(a_job(f"ten_{number}") for number in range(100) for _ in range(2)))

    served: set[str] = set()
    for _ in range(130):
        dispatched = await dispatch(store, slots=1)
        served |= {one.run.tenant_id for one in dispatched}
        claimed = await claim(store, [one.run for one in dispatched])
        runs = await store.running([one.run for one in claimed])
        await store.end_runs([completed(run, USED, b"{}", POLICY, draw()) for run in runs if run is not None])

    assert len(served) == 100
    assert not await wrong_counters(owner)
