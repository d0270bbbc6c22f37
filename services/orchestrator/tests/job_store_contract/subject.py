"""The store under test, and steps that many tests of its contract take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from chassis.errors import ArgosyError
from orchestrator.jobs.fair_share import choose
from orchestrator.jobs.model import Endpoint, Job, JobKey, Lane, NewJob, RunRef
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.ports import JobStore
from orchestrator.jobs.rounds import DispatchPlan
from orchestrator.jobs.runs import Run
from orchestrator.jobs.settle import Draw, died
from orchestrator.reservations.attempts import AttemptsRecord
from orchestrator.reservations.model import Reservation, TokenBound
from orchestrator.usage.model import Attempt
from values.money import NanoUsd, Price
from values.usage import TokenUsage, UsageSource

LEASE = timedelta(seconds=15)
CLAIM_WITHIN = timedelta(seconds=30)
SECOND = timedelta(seconds=1)
POLICY = JobPolicy()
PRICE = Price("local/smollm2", "1", NanoUsd(50_000_000), NanoUsd(200_000_000))
RECORD = AttemptsRecord(Reservation(NanoUsd(1_000_000), (PRICE,)), (TokenBound("local/smollm2", 100, 100),))
MADE = (Attempt(1, 0, TokenUsage(UsageSource.REPORTED, 10, 5)),)

Counters = dict[tuple[str, str, str], tuple[int, int, int, int]]
T = TypeVar("T")


class JobsUnderTest(Protocol):
    """A store, its clock, and what it has written."""

    store: JobStore

    async def pass_time(self, duration: timedelta) -> None:
        """Move the store's clock, or all its times back."""

    async def events(self) -> list[tuple[str, str, int | str]]:
        """The outbox: "dispatched" with job id and epoch, "finished" with job id and state, "usage" with request id
        and number of attempts; in the order of their kinds."""

    async def counters(self) -> Counters:
        """By tenant, pool and lane: queued jobs, their tokens, dispatched and running jobs."""

    async def counted(self) -> Counters:
        """The same, by counting the jobs."""

    async def pause(self, tenant: str, pool: str, model: str) -> None:
        """Pause what these name; "*" is all tenants, "" all pools or models."""


def new_job(job_id: str = "job_1", **changes: Any) -> NewJob:
    job = NewJob(
        tenant_id="ten_1",
        job_id=job_id,
        project_id="prj_1",
        key_id="key_1",
        user_id="usr_1",
        plan="free",
        endpoint=Endpoint.CHAT,
        model="smollm2",
        body=b"{}",
        metadata={"colour": "red"},
        pool="default",
        lane=Lane.STANDARD,
        cost_tokens=100,
        deadline=timedelta(hours=1),
        retention=timedelta(days=1),
        max_queued=1_000,
        fingerprint=b"fingerprint",
    )
    return replace(job, **changes)


def draw(event_id: str = "evt_1") -> Draw:
    return Draw(event_id, 0.5)


def granted(result: T | ArgosyError) -> T:
    assert not isinstance(result, ArgosyError), result
    return result


async def submit(jobs: JobsUnderTest, *new: NewJob) -> list[Job]:
    return [granted(result) for result in await jobs.store.submit(new)]


async def plan_round(jobs: JobsUnderTest, pool: str = "default") -> DispatchPlan:
    """Plan a round as the dispatcher does."""
    (queues,) = [queues for queues in await jobs.store.waiting() if queues.pool == pool]
    choice = choose(queues.slots, queues.lanes)
    chosen = [
        (run, share.lane) for share in choice.shares for run in queues.heads[share.lane, share.tenant_id][: share.count]
    ]
    runs = tuple(run for run, _ in chosen)
    return DispatchPlan(pool, queues.round, runs, dict(chosen), choice.deficits, queues.now)


async def dispatch(jobs: JobsUnderTest, slots: int = 100) -> list[RunRef]:
    """Dispatch all that wait to a worker of its own."""
    await jobs.store.heartbeat("wrk_dispatch", "default", slots, [], LEASE)
    dispatched = await jobs.store.dispatch(await plan_round(jobs), CLAIM_WITHIN)
    assert dispatched is not None
    return sorted(one.run for one in dispatched)


async def start(jobs: JobsUnderTest, job_id: str = "job_1", record: AttemptsRecord | None = RECORD) -> RunRef:
    """Submit a job and claim it."""
    await submit(jobs, new_job(job_id))
    return await claim_next(jobs, record)


async def claim_next(jobs: JobsUnderTest, record: AttemptsRecord | None = RECORD) -> RunRef:
    (run,) = await dispatch(jobs)
    (claimed,) = await jobs.store.claim([(run, "wrk_1")], LEASE)
    run = granted(claimed).run
    if record is not None:
        assert await jobs.store.save_runs([(run, record)], LEASE) == [None]
    return run


async def crash(jobs: JobsUnderTest) -> None:
    """Dispatch and claim all that wait, let their worker die, and reap them."""
    await jobs.store.claim([(run, "wrk_1") for run in await dispatch(jobs)], LEASE)
    await jobs.pass_time(LEASE + SECOND)
    dead = await jobs.store.overdue_runs(100)
    await jobs.store.end_runs([died(run, POLICY, draw(f"evt_{run.job.ref.request_id}")) for run in dead])


async def run_of(jobs: JobsUnderTest, ref: RunRef) -> Run:
    (run,) = await jobs.store.running([ref])
    assert run is not None
    return run


async def state_of(jobs: JobsUnderTest, job_id: str = "job_1") -> Job:
    found = await jobs.store.read(JobKey("ten_1", job_id))
    assert found is not None
    return found[0]


def refusals(results: Sequence[object]) -> list[type | None]:
    return [type(result) if isinstance(result, ArgosyError) else None for result in results]


async def assert_counters_are_exact(jobs: JobsUnderTest) -> None:
    counters = {queue: counts for queue, counts in (await jobs.counters()).items() if any(counts)}
    assert counters == {queue: counts for queue, counts in (await jobs.counted()).items() if any(counts)}
