"""Heartbeats: one for all runs; lost ones are stopped silently, cancelled ones with a report."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from inference_worker.jobs.heartbeat import Heartbeats
from inference_worker.jobs.model import RunEnd, RunRef
from job_fakes import FakedWorker
from worker_fakes import a_candidate, a_plan

HANGS = a_plan(a_candidate("silent"), deadline=600.0, idle_timeout=600.0)


@pytest.fixture
def faked() -> FakedWorker:
    return FakedWorker(slots=7)


def heartbeats_of(faked: FakedWorker) -> Heartbeats:
    return Heartbeats(faked.worker, faked.orchestrator, faked.observer)


@asynccontextmanager
async def beating(faked: FakedWorker) -> AsyncIterator[Heartbeats]:
    heartbeats, stop = heartbeats_of(faked), asyncio.Event()
    task = asyncio.create_task(heartbeats.run(stop))
    try:
        yield heartbeats
    finally:
        stop.set()
        heartbeats.wake()
        await task


async def test_one_heartbeat_names_all_runs_and_the_slots(faked: FakedWorker):
    tasks = [await faked.start(HANGS, f"job_{number}") for number in range(3)]

    assert await heartbeats_of(faked).beat()

    ((slots, runs),) = faked.orchestrator.beats
    assert slots == 7
    assert runs == tuple(RunRef("ten_a", f"job_{number}", 2) for number in range(3))
    await end(tasks)


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lost_run_is_stopped_and_reports_nothing(faked: FakedWorker):
    task = await faked.start(HANGS)
    await faked.until_called()
    faked.orchestrator.take_away("job_1")

    await heartbeats_of(faked).beat()
    await task

    assert faked.observer.ends["job_1"] is RunEnd.LOST
    assert faked.provider.completions[0].aborted
    assert "complete" not in faked.orchestrator.calls


async def test_a_cancelled_run_is_stopped_and_completed(faked: FakedWorker):
    task = await faked.start(HANGS)
    await faked.until_called()
    faked.orchestrator.cancelled.add("job_1")

    await heartbeats_of(faked).beat()
    await task

    assert faked.observer.ends["job_1"] is RunEnd.CANCELLED
    assert len(faked.orchestrator.completed["job_1"].attempts) == 1


async def test_a_run_without_a_heartbeat_for_its_lease_is_stopped_by_the_worker_itself():
    faked = FakedWorker(lease=timedelta(seconds=0.2))
    faked.orchestrator.failures["heartbeat"] = [Unavailable("away")] * 1000
    task = await faked.start(HANGS)
    await faked.until_called()
    async with beating(faked):
        await task

    assert faked.observer.ends["job_1"] is RunEnd.LOST
    assert faked.provider.completions[0].aborted
    assert "complete" not in faked.orchestrator.calls


async def test_a_heartbeat_extends_the_lease(faked: FakedWorker):
    task = await faked.start(HANGS)
    (active,) = faked.worker.runs.values()
    active.lease_until = 0.0

    await heartbeats_of(faked).beat()
    heartbeats_of(faked).lose_overdue()

    assert active.lease_until > asyncio.get_running_loop().time()
    assert not active.lost
    await end([task])


async def test_heartbeats_keep_a_lease_that_is_shorter_than_their_usual_interval():
    faked = FakedWorker(lease=timedelta(seconds=1.5))
    task = await faked.start(HANGS)
    (active,) = faked.worker.runs.values()
    async with beating(faked):
        await faked.orchestrator.until(lambda: len(faked.orchestrator.beats) == 4)

    assert not active.lost
    await end([task])


async def test_a_run_that_reports_its_end_is_left_to_its_report(faked: FakedWorker):
    faked.orchestrator.failures["complete"] = [Unavailable("away")]
    task = await faked.start(a_plan(a_candidate()))
    await faked.orchestrator.until(lambda: "complete" in faked.orchestrator.calls)
    (active,) = faked.worker.runs.values()
    active.lose()
    await task

    assert faked.observer.ends["job_1"] is RunEnd.SUCCEEDED


async def test_a_drain_is_announced_at_once(faked: FakedWorker):
    async with beating(faked) as heartbeats:
        await faked.orchestrator.until(lambda: len(faked.orchestrator.beats) == 1)
        faked.worker.begin_drain(timedelta(seconds=60), timedelta(seconds=60))
        heartbeats.wake()
        await faked.orchestrator.until(lambda: len(faked.orchestrator.beats) == 2)

    assert [slots for slots, _ in faked.orchestrator.beats[:2]] == [7, 0]


async def test_a_failed_heartbeat_is_noted_and_repeated(faked: FakedWorker):
    faked.orchestrator.failures["heartbeat"] = [Unavailable("away")]
    async with beating(faked):
        await faked.orchestrator.until(lambda: len(faked.orchestrator.beats) == 1)

    assert faked.observer.retries == [("heartbeat", "SERVICE_UNAVAILABLE")]
