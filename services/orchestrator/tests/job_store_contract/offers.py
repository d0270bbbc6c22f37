"""Jobs that reach workers past the topics: those that came back, and those that no worker has claimed."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.jobs.model import JobState, Lane
from orchestrator.jobs.rounds import Room

from services.orchestrator.tests.job_store_contract.subject import (
    CLAIM_WITHIN,
    LEASE,
    JobsUnderTest,
    assert_counters_are_exact,
    crash,
    dispatch,
    granted,
    new_job,
    submit,
)

AFTER = timedelta(minutes=1)


class OfferContract:
    async def test_a_job_that_came_back_is_dispatched_without_a_free_place(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, *[new_job(f"job_{n}", tenant_id="ten_0", lane=Lane.INTERACTIVE) for n in range(4, 8)])
        on_their_way = await dispatch(jobs, slots=2)
        await submit(jobs, *[new_job(f"job_{n}") for n in range(1, 4)])
        await crash(jobs)
        await jobs.store.heartbeat("wrk_dispatch", "default", 2, [], LEASE)
        with_places = await jobs.store.waiting()

        (plan,) = await jobs.store.returned()
        dispatched = await jobs.store.dispatch(plan, CLAIM_WITHIN)

        assert (len(on_their_way), with_places) == (4, [])
        assert [one.run.tenant_id for one in dispatched or ()] == ["ten_1", "ten_1"]
        assert await jobs.store.returned() == []
        await assert_counters_are_exact(jobs)

    async def test_what_is_paused_or_crashed_twice_or_never_is_not_brought_back(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job())
        for _ in range(2):
            await crash(jobs)
        await submit(jobs, new_job("job_2", tenant_id="ten_2"))
        await jobs.store.heartbeat("wrk_1", "default", 4, [], LEASE)
        fresh = await jobs.store.returned()
        await jobs.pause("ten_1", "", "")
        await crash(jobs)
        await jobs.store.heartbeat("wrk_1", "default", 4, [], LEASE)
        (plan,) = await jobs.store.returned()
        await jobs.pause("*", "default", "")

        assert fresh == []
        assert [run.job_id for run in plan.jobs] == ["job_2"]
        assert await jobs.store.returned() == []

    async def test_what_no_worker_has_claimed_is_offered_to_one_worker_at_a_time(self, jobs: JobsUnderTest) -> None:
        lanes = {"job_1": Lane.BATCH, "job_2": Lane.STANDARD, "job_3": Lane.INTERACTIVE}
        await submit(jobs, *[new_job(job_id, lane=lane) for job_id, lane in lanes.items()])
        runs = {run.job_id: run for run in await dispatch(jobs)}
        early = await jobs.store.unclaimed("default", Room(4, 4), AFTER)
        await jobs.pass_time(AFTER)
        other = await jobs.store.unclaimed("other", Room(4, 4), AFTER)
        busy = await jobs.store.unclaimed("default", Room(4, 0), AFTER)

        first = await jobs.store.unclaimed("default", Room(4, 2), AFTER)
        second = await jobs.store.unclaimed("default", Room(4, 4), AFTER)
        (claimed,) = await jobs.store.claim([(runs["job_3"], "wrk_1")], LEASE)

        assert (early, other, busy) == ([], [], [])
        assert {(one.dispatch, one.lane) for one in first} == {
            (runs["job_3"], Lane.INTERACTIVE),
            (runs["job_2"], Lane.STANDARD),
        }
        assert [one.dispatch for one in second] == [runs["job_1"]]
        assert granted(claimed).job.state is JobState.RUNNING
        await jobs.pass_time(AFTER)
        again = await jobs.store.unclaimed("default", Room(4, 4), AFTER)
        assert {one.dispatch.job_id for one in again} == {"job_1", "job_2"}

    async def test_what_came_back_is_offered_at_once_to_all_that_ask(self, jobs: JobsUnderTest) -> None:
        await submit(jobs, new_job())
        await crash(jobs)
        (run,) = await dispatch(jobs)

        offers = [await jobs.store.unclaimed("default", Room(2, 0), AFTER) for _ in range(2)]

        assert [[one.dispatch for one in found] for found in offers] == [[run], [run]]
