"""Jobs on their way to a worker: submitted, dispatched, claimed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from orchestrator.jobs.errors import JobIdReused, JobLeaseLost, JobNotClaimable, QueueFull
from orchestrator.jobs.model import JobState, Lane
from orchestrator.jobs.rounds import PoolQueues
from orchestrator.jobs.runs import ClaimedJob
from orchestrator.jobs.settle import completed, ended_waiting

from services.orchestrator.tests.job_store_contract.subject import (
    CLAIM_WITHIN,
    LEASE,
    MADE,
    POLICY,
    RECORD,
    SECOND,
    JobsUnderTest,
    assert_counters_are_exact,
    crash,
    dispatch,
    draw,
    granted,
    new_job,
    plan_round,
    refusals,
    run_of,
    start,
    state_of,
    submit,
)


class SubmitContract:
    async def test_a_submitted_job_waits_and_is_counted(self, jobs: JobsUnderTest) -> None:
        (job,) = await submit(jobs, new_job())

        assert (job.state, job.epoch, job.errors, job.crashes) == (JobState.QUEUED, 0, 0, 0)
        assert job.deadline_at - job.created_at == timedelta(hours=1)
        assert await state_of(jobs) == job
        assert await jobs.counters() == {("ten_1", "default", "standard"): (1, 100, 0, 0)}
        assert await jobs.events() == []

    async def test_submitting_again_returns_the_job_and_counts_it_once(self, jobs: JobsUnderTest) -> None:
        (first,) = await submit(jobs, new_job())
        again, twin = await submit(jobs, new_job(), new_job())

        assert again == first == twin
        assert await jobs.counters() == {("ten_1", "default", "standard"): (1, 100, 0, 0)}

    async def test_an_id_with_another_request_is_refused(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job())

        results = await jobs.store.submit([new_job(fingerprint=b"other"), new_job("job_2")])

        assert refusals(results) == [JobIdReused, None]

    async def test_a_finished_job_is_not_accepted_again(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))
        await jobs.store.end_runs([completed(run, MADE, b"{}", POLICY, draw())])

        (again,) = await submit(jobs, new_job())
        other = await jobs.store.submit([new_job(fingerprint=b"other")])

        assert (again.state, again.result) == (JobState.SUCCEEDED, b"")
        assert refusals(other) == [JobIdReused]
        await assert_counters_are_exact(jobs)

    async def test_jobs_of_two_tenants_may_have_one_id(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job(), new_job(tenant_id="ten_2", fingerprint=b"other"))

        assert len(await jobs.counters()) == 2

    async def test_a_full_queue_refuses_what_is_above_its_limit(self, jobs: JobsUnderTest) -> None:
        new = [new_job(f"job_{n}", max_queued=2, lane=Lane.BATCH if n == 1 else Lane.STANDARD) for n in range(3)]

        results = [await jobs.store.submit([one]) for one in new]

        assert [refusals(result) for result in results] == [[None], [None], [QueueFull]]
        assert refusals(await jobs.store.submit([replace(new[0])])) == [None]
        await assert_counters_are_exact(jobs)


class DispatchContract:
    async def test_nothing_waits_for_a_pool_without_live_workers(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job())
        none = await jobs.store.waiting()
        await jobs.store.heartbeat("wrk_1", "default", 3, [], LEASE)
        live = await jobs.store.waiting()
        await jobs.pass_time(timedelta(seconds=16))

        assert (none, await jobs.store.waiting()) == ([], [])
        assert [(queues.pool, queues.slots) for queues in live] == [("default", 3)]

    async def test_queues_are_read_with_their_heads_in_order(self, jobs: JobsUnderTest) -> None:
        await jobs.store.heartbeat("wrk_1", "default", 2, [], LEASE)
        await jobs.store.heartbeat("wrk_2", "default", 1, [], LEASE)
        await submit(jobs, *[new_job(f"job_{n}", cost_tokens=n) for n in (3, 1, 2)])
        await jobs.pass_time(SECOND)
        await submit(jobs, new_job("job_0"), new_job("job_9", tenant_id="ten_2", lane=Lane.BATCH))

        (queues,) = await jobs.store.waiting()

        assert (queues.slots, queues.round) == (3, 0)
        by_lane = {lane.lane: lane for lane in queues.lanes}
        (tenant,) = by_lane["standard"].tenants
        assert (list(tenant.costs), tenant.more, tenant.queued, tenant.deficit) == ([1, 2, 3, 100], False, 4, 0)
        assert [run.job_id for run in queues.heads["standard", "ten_1"]] == ["job_1", "job_2", "job_3", "job_0"]
        assert by_lane["standard"].unserved >= SECOND
        assert [one.tenant_id for one in by_lane["batch"].tenants] == ["ten_2"]

    async def test_a_long_queue_says_that_there_is_more(self, jobs: JobsUnderTest) -> None:
        await jobs.store.heartbeat("wrk_1", "default", 1, [], LEASE)
        await submit(jobs, *[new_job(f"job_{n}") for n in range(9)])

        (queues,) = await jobs.store.waiting()

        (tenant,) = next(lane.tenants for lane in queues.lanes if lane.lane == "standard")
        assert tenant.more
        assert tenant.queued == 9
        assert 0 < len(tenant.costs) < 9

    async def test_a_pause_hides_its_tenant_pool_or_model(self, jobs: JobsUnderTest) -> None:
        await jobs.store.heartbeat("wrk_1", "default", 10, [], LEASE)
        await submit(jobs, new_job(), new_job(tenant_id="ten_2"), new_job("job_2", tenant_id="ten_2", model="other"))

        def seen(pools: list[PoolQueues]) -> set[tuple[str, str]]:
            return {(run.tenant_id, run.job_id) for one in pools for runs in one.heads.values() for run in runs}

        await jobs.pause("ten_1", "", "")
        assert seen(await jobs.store.waiting()) == {("ten_2", "job_1"), ("ten_2", "job_2")}
        await jobs.pause("*", "default", "other")
        assert seen(await jobs.store.waiting()) == {("ten_2", "job_1")}
        await jobs.pause("*", "default", "")
        assert seen(await jobs.store.waiting()) == set()

    async def test_of_jobs_that_crashed_twice_one_at_a_time_is_in_flight(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, *[new_job(f"job_{n}", tenant_id=f"ten_{n % 2}") for n in range(4)])
        for _ in range(2):
            await crash(jobs)
        await submit(jobs, new_job("job_9", tenant_id="ten_0"))

        first, *others = await dispatch(jobs)
        waiting = [await jobs.store.waiting()]
        (claimed,) = await jobs.store.claim([(first, "wrk_1")], LEASE)
        waiting.append(await jobs.store.waiting())
        run = await run_of(jobs, granted(claimed).run)
        await jobs.store.end_runs([completed(run, (), b"{}", POLICY, draw())])

        assert [ref.job_id for ref in (first, *others)] == ["job_0", "job_9"]
        assert waiting == [[], []]
        assert [ref.job_id for ref in await dispatch(jobs)] == ["job_1"]

    async def test_a_paused_job_that_crashed_twice_does_not_hold_up_the_next(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, *[new_job(f"job_{n}", tenant_id=f"ten_{n}") for n in range(2)])
        for _ in range(2):
            await crash(jobs)

        await jobs.pause("ten_0", "", "")

        assert [ref.job_id for ref in await dispatch(jobs)] == ["job_1"]

    async def test_a_dispatch_raises_the_epoch_and_writes_one_record(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job(), new_job("job_2"))

        runs = await dispatch(jobs)

        assert [(run.job_id, run.epoch) for run in runs] == [("job_1", 1), ("job_2", 1)]
        assert await jobs.events() == [("dispatched", "job_1", 1), ("dispatched", "job_2", 1)]
        assert (await state_of(jobs)).state is JobState.DISPATCHED
        assert await jobs.counters() == {("ten_1", "default", "standard"): (0, 0, 2, 0)}

    async def test_of_two_plans_of_one_round_one_is_dispatched(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job(), new_job("job_2"))
        await jobs.store.heartbeat("wrk_1", "default", 10, [], LEASE)
        plans = [await plan_round(jobs), await plan_round(jobs)]

        results = await asyncio.gather(*(jobs.store.dispatch(plan, CLAIM_WITHIN) for plan in plans))

        assert sorted(0 if result is None else len(result) for result in results) == [0, 2]
        assert len(await jobs.events()) == 2
        await assert_counters_are_exact(jobs)

    async def test_a_job_that_changed_since_the_plan_is_skipped(self, jobs: JobsUnderTest) -> None:
        first, _ = await submit(jobs, new_job(), new_job("job_2"))
        await jobs.store.heartbeat("wrk_1", "default", 10, [], LEASE)
        plan = await plan_round(jobs)
        await jobs.store.end_waiting([ended_waiting(first, JobState.CANCELLED, plan.now)])

        dispatched = await jobs.store.dispatch(plan, CLAIM_WITHIN)

        assert [one.run.job_id for one in dispatched or ()] == ["job_2"]
        assert await jobs.events() == [("dispatched", "job_2", 1), ("finished", "job_1", "cancelled")]
        await assert_counters_are_exact(jobs)

    async def test_credits_are_kept_for_the_next_round(self, jobs: JobsUnderTest) -> None:
        await jobs.store.heartbeat("wrk_1", "default", 1, [], LEASE)
        await submit(jobs, *[new_job(f"job_{n}", cost_tokens=n) for n in range(1, 6)])
        plan = await plan_round(jobs)
        await jobs.store.dispatch(plan._replace(deficits={("standard", "ten_1"): 42}, jobs=plan.jobs[:1]), CLAIM_WITHIN)

        (queues,) = await jobs.store.waiting()

        (lane,) = [lane for lane in queues.lanes if lane.tenants]
        assert (queues.round, lane.in_flight, lane.tenants[0].deficit) == (1, 1, 42)

    async def test_a_dispatch_that_was_not_claimed_is_queued_again(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job())
        (lost,) = await dispatch(jobs)
        early = await jobs.store.requeue_lost_dispatches(10)
        await jobs.pass_time(CLAIM_WITHIN + SECOND)

        (job,) = await jobs.store.requeue_lost_dispatches(10)

        assert early == []
        assert (job.state, job.errors, job.crashes) == (JobState.QUEUED, 0, 0)
        assert refusals(await jobs.store.claim([(lost, "wrk_1")], LEASE)) == [JobNotClaimable]
        await assert_counters_are_exact(jobs)
        (again,) = await dispatch(jobs)
        assert again.epoch > lost.epoch


class ClaimContract:
    async def test_a_claim_raises_the_epoch_and_counts_as_a_crash(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job())
        (run,) = await dispatch(jobs)

        (claimed,) = await jobs.store.claim([(run, "wrk_1")], LEASE)

        assert isinstance(claimed, ClaimedJob)
        assert claimed.run == run._replace(epoch=2)
        assert (claimed.job.state, claimed.job.crashes, claimed.job.worker_id) == (JobState.RUNNING, 1, "wrk_1")
        assert (claimed.body, claimed.principal.project_id, claimed.principal.key_id) == (b"{}", "prj_1", "key_1")
        assert await jobs.counters() == {("ten_1", "default", "standard"): (0, 0, 0, 1)}
        assert await jobs.store.running_requests([("ten_1", "job_1.2"), ("ten_2", "job_1.2")]) == {("ten_1", "job_1.2")}

    async def test_of_two_claims_one_succeeds(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job())
        (run,) = await dispatch(jobs)

        results = await asyncio.gather(*(jobs.store.claim([(run, f"wrk_{n}")], LEASE) for n in range(3)))

        assert sorted(str(refusals(result)[0]) for result in results) == sorted(
            ["None", str(JobNotClaimable), str(JobNotClaimable)]
        )
        await assert_counters_are_exact(jobs)

    async def test_a_claim_of_another_epoch_or_job_is_refused(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job(), new_job("job_2"))
        run, _ = await dispatch(jobs)

        results = await jobs.store.claim(
            [(run._replace(epoch=0), "wrk_1"), (run._replace(epoch=2), "wrk_1"), (run._replace(job_id="no"), "wrk_1")],
            LEASE,
        )

        assert refusals(results) == [JobNotClaimable] * 3
        assert (await state_of(jobs)).state is JobState.DISPATCHED

    async def test_runs_are_saved_and_read_with_what_their_settlement_needs(self, jobs: JobsUnderTest) -> None:
        ref = await start(jobs, record=None)
        before = await run_of(jobs, ref)
        record = RECORD._replace(ended=MADE, running=(2, 0), reported=1, unmade=MADE)

        saved = await jobs.store.save_runs([(ref, record), (ref._replace(epoch=1), RECORD)], LEASE)

        assert refusals(saved) == [None, JobLeaseLost]
        assert (before.record, (await run_of(jobs, ref)).record) == (None, record)

    async def test_a_heartbeat_extends_leases_and_tells_lost_and_cancelled_runs(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job(), new_job("job_2"))
        claims = [(run, "wrk_1") for run in await dispatch(jobs)]
        first, second = [granted(claimed).run for claimed in await jobs.store.claim(claims, LEASE)]
        ended = first._replace(epoch=1)
        await jobs.store.request_cancel(second)
        await jobs.pass_time(timedelta(seconds=10))

        heartbeat = await jobs.store.heartbeat("wrk_1", "default", 4, [first, ended, second], LEASE)
        await jobs.pass_time(timedelta(seconds=10))

        assert (heartbeat.lost, heartbeat.cancelled) == ((ended,), (second,))
        assert await jobs.store.overdue_runs(10) == []
        await jobs.pass_time(timedelta(seconds=6))
        assert sorted(run.job.ref for run in await jobs.store.overdue_runs(10)) == [first, second]
