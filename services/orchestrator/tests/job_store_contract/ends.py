"""How runs and jobs end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from chassis.errors import Unavailable
from orchestrator.jobs.errors import JobLeaseLost, JobNotClaimable
from orchestrator.jobs.model import JobState, WaitReason
from orchestrator.jobs.runs import RunEnd
from orchestrator.jobs.settle import completed, died, ended_waiting, returned
from values.usage import TokenUsage, UsageSource

from services.orchestrator.tests.job_store_contract.subject import (
    LEASE,
    MADE,
    POLICY,
    RECORD,
    SECOND,
    JobsUnderTest,
    assert_counters_are_exact,
    claim_next,
    dispatch,
    draw,
    granted,
    new_job,
    refusals,
    run_of,
    start,
    state_of,
    submit,
)


class EndContract:
    async def test_a_finished_run_is_settled_and_its_job_final_with_one_event_each(self, jobs: JobsUnderTest) -> None:
        ref = await start(jobs)
        end = completed(await run_of(jobs, ref), MADE, b'{"a":1}', POLICY, draw())

        first, again = [await jobs.store.end_runs([end]) for _ in range(2)]

        assert granted(first[0]).state is JobState.SUCCEEDED
        assert refusals(again) == [JobLeaseLost]
        assert await jobs.events() == [
            ("dispatched", "job_1", 1),
            ("finished", "job_1", "succeeded"),
            ("usage", "job_1.2", 1),
        ]
        job = await state_of(jobs)
        assert (job.crashes, job.usage, job.is_final) == (0, MADE[0].usage, True)
        assert job.cost == 10 * 50 + 5 * 200
        assert await jobs.store.running_requests([("ten_1", "job_1.2")]) == set()
        assert set((await jobs.counters()).values()) == {(0, 0, 0, 0)}

    async def test_two_ends_of_one_run_write_one(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))
        ends = [completed(run, MADE, b"{}", POLICY, draw("evt_1")), returned(run, MADE, draw("evt_2"))]

        together = await jobs.store.end_runs(ends)

        assert refusals(together) == [None, JobLeaseLost]
        assert [event for event in await jobs.events() if event[0] != "dispatched"] == [
            ("finished", "job_1", "succeeded"),
            ("usage", "job_1.2", 1),
        ]
        await assert_counters_are_exact(jobs)

    async def test_racing_ends_of_one_run_write_one(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))
        ends = [returned(run, MADE, draw(f"evt_{n}")) for n in range(3)]

        results = await asyncio.gather(*(jobs.store.end_runs([end]) for end in ends))

        assert [refusals(result)[0] for result in results].count(None) == 1
        assert [event for event in await jobs.events() if event[0] == "usage"] == [("usage", "job_1.2", 1)]
        await assert_counters_are_exact(jobs)

    async def test_a_retried_run_waits_for_its_delay_with_its_counters(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))
        end = completed(run, MADE, Unavailable("the provider is down"), POLICY, draw())

        (job,) = await jobs.store.end_runs([end])

        stored = await state_of(jobs)
        assert (stored.state, stored.state_reason, stored.errors, stored.crashes) == (
            JobState.QUEUED,
            WaitReason.RETRY,
            1,
            0,
        )
        assert stored.error is not None
        assert stored.error.message == "the provider is down"
        assert granted(job).epoch == stored.epoch
        await assert_counters_are_exact(jobs)
        assert await jobs.store.waiting() == []
        await jobs.pass_time(end.delay + SECOND)
        assert [run.job_id for run in await dispatch(jobs)] == ["job_1"]

    async def test_a_returned_run_consumes_no_attempt_and_is_due_at_once(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))

        await jobs.store.end_runs([returned(run, MADE, draw())])

        job = await state_of(jobs)
        assert (job.state, job.errors, job.crashes, job.usage) == (JobState.QUEUED, 0, 0, MADE[0].usage)
        assert len(await dispatch(jobs)) == 1

    async def test_a_job_that_comes_back_keeps_its_place(self, jobs: JobsUnderTest) -> None:
        first = await start(jobs, "job_9")
        await jobs.pass_time(SECOND)
        await submit(jobs, *[new_job(f"job_{n}") for n in (1, 2)])
        await jobs.pass_time(LEASE + SECOND)

        await jobs.store.end_runs([died(await run_of(jobs, first), POLICY, draw())])
        await jobs.store.heartbeat("wrk_2", "default", 3, [], LEASE)

        (queues,) = await jobs.store.waiting()
        assert [run.job_id for run in queues.heads["standard", "ten_1"]] == ["job_9", "job_1", "job_2"]

    async def test_usage_and_cost_add_up_over_the_runs(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))
        await jobs.store.end_runs([returned(run, MADE, draw("evt_1"))])
        run = await run_of(jobs, await claim_next(jobs))
        await jobs.store.end_runs([completed(run, MADE, b"{}", POLICY, draw("evt_2"))])

        job = await state_of(jobs)

        assert job.usage == TokenUsage(UsageSource.REPORTED, 20, 10)
        assert job.cost == 2 * (10 * 50 + 5 * 200)

    async def test_an_end_is_refused_when_a_cancellation_was_asked_for_since(self, jobs: JobsUnderTest) -> None:
        ref = await start(jobs)
        run = await run_of(jobs, ref)
        for _ in range(2):
            requested = await jobs.store.request_cancel(ref)
            assert requested is not None
            assert requested.cancel_requested

        stale = await jobs.store.end_runs([completed(run, MADE, b"{}", POLICY, draw("evt_1"))])
        fresh = await jobs.store.end_runs([completed(await run_of(jobs, ref), MADE, b"{}", POLICY, draw("evt_2"))])

        assert refusals(stale) == [JobLeaseLost]
        assert granted(fresh[0]).state is JobState.CANCELLED
        assert [event for event in await jobs.events() if event[0] == "usage"] == [("usage", "job_1.2", 1)]

    async def test_a_cancellation_of_another_epoch_is_not_noted(self, jobs: JobsUnderTest) -> None:
        ref = await start(jobs)

        assert await jobs.store.request_cancel(ref._replace(epoch=1)) is None
        assert not (await state_of(jobs)).cancel_requested

    async def test_a_dead_run_is_ended_only_while_its_lease_has_run_out(self, jobs: JobsUnderTest) -> None:
        ref = await start(jobs)
        await jobs.pass_time(LEASE + SECOND)
        (overdue,) = await jobs.store.overdue_runs(10)
        end = died(overdue, POLICY, draw())
        await jobs.store.heartbeat("wrk_1", "default", 1, [ref], LEASE)

        alive = await jobs.store.end_runs([end])
        await jobs.pass_time(LEASE + SECOND)
        dead = await jobs.store.end_runs([end])

        assert (refusals(alive), refusals(dead)) == ([JobLeaseLost], [None])
        job = await state_of(jobs)
        assert (job.state, job.crashes, job.epoch) == (JobState.QUEUED, 1, ref.epoch + 1)

    async def test_a_dead_worker_cannot_write_any_more(self, jobs: JobsUnderTest) -> None:
        ref = await start(jobs)
        run = await run_of(jobs, ref)
        await jobs.pass_time(LEASE + SECOND)
        await jobs.store.end_runs([died(run, POLICY, draw("evt_1"))])

        late: list[Sequence[object]] = [
            await jobs.store.end_runs([completed(run, MADE, b"{}", POLICY, draw("evt_2"))]),
            await jobs.store.save_runs([(ref, RECORD)], LEASE),
        ]

        assert [refusals(results) for results in late] == [[JobLeaseLost], [JobLeaseLost]]
        assert await jobs.store.request_cancel(ref) is None
        assert (await jobs.store.heartbeat("wrk_1", "default", 1, [ref], LEASE)).lost == (ref,)
        assert await jobs.store.running([ref]) == [None]
        assert [event for event in await jobs.events() if event[0] == "usage"] == [("usage", "job_1.2", 1)]
        await assert_counters_are_exact(jobs)

    async def test_an_old_epoch_cannot_end_a_newer_run(self, jobs: JobsUnderTest) -> None:
        old = await run_of(jobs, await start(jobs))
        await jobs.store.end_runs([returned(old, MADE, draw("evt_1"))])
        new = await claim_next(jobs)

        late = await jobs.store.end_runs([completed(old, MADE, b"{}", POLICY, draw("evt_2"))])

        assert refusals(late) == [JobLeaseLost]
        assert (await state_of(jobs)).state is JobState.RUNNING
        assert (await run_of(jobs, new)).job.ref == new

    async def test_one_refused_end_does_not_hold_up_the_others(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, *[new_job(f"job_{n}") for n in range(3)])
        claims = [(run, "wrk_1") for run in await dispatch(jobs)]
        refs = [granted(claimed).run for claimed in await jobs.store.claim(claims, LEASE)]
        ends: list[RunEnd] = []
        for number, ref in enumerate(refs):
            ends.append(returned(await run_of(jobs, ref), (), draw(f"evt_{number}")))
        ends[1] = ends[1]._replace(run=refs[1]._replace(epoch=7))

        results = await jobs.store.end_runs(ends)

        assert refusals(results) == [None, JobLeaseLost, None]
        await assert_counters_are_exact(jobs)


class WaitingEndContract:
    async def test_a_waiting_job_is_finished_once(self, jobs: JobsUnderTest) -> None:
        (job,) = await submit(jobs, new_job())
        end = ended_waiting(job, JobState.CANCELLED, job.created_at)

        results = [refusals(await jobs.store.end_waiting([end]))[0] for _ in range(2)]

        assert results == [None, JobLeaseLost]
        assert await jobs.events() == [("finished", "job_1", "cancelled")]
        await assert_counters_are_exact(jobs)

    async def test_a_dispatched_job_is_finished_and_cannot_be_claimed(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job())
        (run,) = await dispatch(jobs)
        job = await state_of(jobs)

        await jobs.store.end_waiting([ended_waiting(job, JobState.CANCELLED, job.created_at)])

        assert refusals(await jobs.store.claim([(run, "wrk_1")], LEASE)) == [JobNotClaimable]
        await assert_counters_are_exact(jobs)

    async def test_a_job_that_was_claimed_or_dispatched_since_is_left_alone(self, jobs: JobsUnderTest) -> None:
        (queued,) = await submit(jobs, new_job())
        (run,) = await dispatch(jobs)
        dispatched = await state_of(jobs)
        before = await jobs.store.end_waiting([ended_waiting(queued, JobState.CANCELLED, queued.created_at)])
        await jobs.store.claim([(run, "wrk_1")], LEASE)
        ends = [ended_waiting(job, JobState.CANCELLED, job.created_at) for job in (dispatched, await state_of(jobs))]

        after = [refusals(await jobs.store.end_waiting([end]))[0] for end in ends]

        assert (refusals(before), after) == ([JobLeaseLost], [JobLeaseLost, JobLeaseLost])
        assert (await state_of(jobs)).state is JobState.RUNNING

    async def test_jobs_past_their_deadline_are_found_unless_they_run(self, jobs: JobsUnderTest) -> None:
        await start(jobs, "job_0")
        await submit(jobs, new_job(), new_job("job_2", deadline=timedelta(hours=9)))
        await jobs.pass_time(timedelta(hours=1, seconds=1))

        late, now = await jobs.store.past_deadline(10)

        assert [job.job_id for job in late] == ["job_1"]
        assert now >= late[0].deadline_at

    async def test_a_quarantined_job_waits_for_its_operator(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))
        run = run._replace(job=replace(run.job, crashes=POLICY.max_crashes))
        await jobs.pass_time(LEASE + SECOND)
        await jobs.store.end_runs([died(run, POLICY, draw())])
        quarantined = await state_of(jobs)
        await jobs.pass_time(timedelta(hours=2))
        late, _ = await jobs.store.past_deadline(10)

        retried = await jobs.store.retry_quarantined(quarantined.ref.key, timedelta(hours=1))
        again = await jobs.store.retry_quarantined(quarantined.ref.key, timedelta(hours=1))

        assert (quarantined.state, quarantined.crashes, late, again) == (JobState.QUARANTINED, 3, [], None)
        assert retried is not None
        assert (retried.state, retried.errors, retried.crashes) == (JobState.QUEUED, 0, 0)
        await assert_counters_are_exact(jobs)
        assert len(await dispatch(jobs)) == 1

    async def test_a_job_that_was_retried_meanwhile_is_not_dropped(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))
        run = run._replace(job=replace(run.job, crashes=POLICY.max_crashes))
        await jobs.pass_time(LEASE + SECOND)
        await jobs.store.end_runs([died(run, POLICY, draw())])
        read = await state_of(jobs)
        await jobs.store.retry_quarantined(read.ref.key, timedelta(hours=1))

        dropped = await jobs.store.end_waiting([ended_waiting(read, JobState.FAILED, run.now)])

        assert refusals(dropped) == [JobLeaseLost]
        assert (await state_of(jobs)).state is JobState.QUEUED

    async def test_a_quarantined_job_can_be_dropped(self, jobs: JobsUnderTest) -> None:
        run = await run_of(jobs, await start(jobs))
        run = run._replace(job=replace(run.job, crashes=POLICY.max_crashes))
        await jobs.pass_time(LEASE + SECOND)
        await jobs.store.end_runs([died(run, POLICY, draw())])
        job = await state_of(jobs)

        results = await jobs.store.end_waiting([ended_waiting(job, JobState.FAILED, job.created_at)])

        assert refusals(results) == [None]
        await assert_counters_are_exact(jobs)
