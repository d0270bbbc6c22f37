"""Queues on a real Postgres: their figures are those of the jobs, at every step."""

from datetime import timedelta
from typing import Any

import pytest
from chassis.postgres import Database
from orchestrator.jobs.cancel import Cancellations
from orchestrator.jobs.errors import JobNotFound, JobNotQuarantined
from orchestrator.jobs.listing.postgres import PostgresJobReader
from orchestrator.jobs.model import Job, JobKey, JobState, Lane, RunRef
from orchestrator.jobs.postgres import PostgresJobStore
from orchestrator.jobs.settle import completed
from orchestrator.queues.model import PauseSelector, QueueFigures
from orchestrator.queues.postgres import PostgresQueueStore

from services.orchestrator.tests.jobs_examples import (
    LEASE,
    POLICY,
    a_job,
    claim,
    dispatch,
    draw,
    running,
    submit,
    wrong_counters,
)
from services.orchestrator.tests.queue_pauses_contract import QueuePausesContract


@pytest.fixture
def queues(database: Database, store: PostgresJobStore) -> PostgresQueueStore:
    return PostgresQueueStore(database)


async def figures(queues: PostgresQueueStore, lane: Lane = Lane.STANDARD, pool: str = "default") -> QueueFigures:
    return next(each for each in await queues.read_figures() if (each.pool, each.lane) == (pool, lane))


class TestPostgresPauses(QueuePausesContract):
    async def test_a_paused_model_is_not_dispatched_until_it_is_resumed(
        self, queues: PostgresQueueStore, store: PostgresJobStore
    ) -> None:
        await submit(store, a_job(), a_job(model="other"))
        await queues.pause(PauseSelector(model="smollm2"))
        assert len(await dispatch(store)) == 1

        await queues.resume(PauseSelector(model="smollm2"))

        assert len(await dispatch(store)) == 1


async def test_without_jobs_and_workers_there_is_no_queue(queues: PostgresQueueStore) -> None:
    assert await queues.read_figures() == []


async def test_the_figures_follow_jobs_from_their_submission_to_their_end(
    queues: PostgresQueueStore, store: PostgresJobStore, owner: Any
) -> None:
    await submit(store, *(a_job(f"ten_{n % 2}", cost_tokens=10 + n) for n in range(6)))
    waiting = await figures(queues)
    assert (waiting.queued, waiting.queued_tokens, waiting.tenants, waiting.slots) == (6, 75, 2, 0)
    assert waiting.oldest_wait is not None
    assert (waiting.mean_run, waiting.work) == (None, None)

    dispatched = await dispatch(store, slots=2)
    on_the_way = await figures(queues)
    assert (on_the_way.queued, on_the_way.dispatched) == (6 - len(dispatched), len(dispatched))
    assert on_the_way.slots == 2

    claimed = await claim(store, [one.run for one in dispatched[:1]])
    runs = await store.running([claimed[0].run])
    assert (await figures(queues)).running == 1
    assert runs[0] is not None
    await store.end_runs([completed(runs[0], (), b"{}", POLICY, draw())])

    ended = await figures(queues)
    assert (ended.running, ended.dispatched) == (0, len(dispatched) - 1)
    assert ended.mean_run is not None
    assert ended.work == ended.queued * ended.mean_run
    assert not await wrong_counters(owner)


@pytest.mark.parametrize(
    ("selector", "paused"),
    [
        (PauseSelector(tenant_id="ten_1"), 2),
        (PauseSelector(pool="default"), 3),
        (PauseSelector(tenant_id="ten_1", pool="other"), 0),
        (PauseSelector(model="smollm2"), 0),
    ],
)
async def test_jobs_of_paused_tenants_and_pools_are_counted_as_paused(
    queues: PostgresQueueStore, store: PostgresJobStore, selector: PauseSelector, paused: int
) -> None:
    await submit(store, a_job("ten_1"), a_job("ten_1"), a_job("ten_2"))
    await queues.pause(selector)
    await queues.pause(PauseSelector(tenant_id="ten_1", model="other"))

    found = await figures(queues)

    assert (found.queued, found.paused) == (3, paused)


async def test_the_oldest_wait_is_that_of_the_job_that_is_due_for_longest(
    queues: PostgresQueueStore, store: PostgresJobStore, owner: Any
) -> None:
    old, _, later = await submit(store, a_job("ten_1"), a_job("ten_2"), a_job("ten_3"))
    await owner.execute("UPDATE jobs SET due_at = now() - interval '100 s' WHERE job_id = $1", old.job_id)
    await owner.execute("UPDATE jobs SET due_at = now() + interval '1 h' WHERE job_id = $1", later.job_id)

    wait = (await figures(queues)).oldest_wait
    assert wait is not None
    assert timedelta(seconds=100) <= wait < timedelta(seconds=200)

    await owner.execute("UPDATE jobs SET due_at = now() + interval '1 h'")
    retrying = await figures(queues)
    assert (retrying.queued, retrying.oldest_wait) == (3, None)


async def test_workers_count_while_they_send_heartbeats(
    queues: PostgresQueueStore, store: PostgresJobStore, owner: Any
) -> None:
    for worker, pool, slots in (("wkr_1", "default", 16), ("wkr_2", "default", 8), ("wkr_3", "gpu", 4)):
        await store.heartbeat(worker, pool, slots, (), LEASE)
    assert {(each.pool, each.slots) for each in await queues.read_figures()} == {("default", 24), ("gpu", 4)}
    assert [each.lane for each in await queues.read_figures()] == [*Lane, *Lane]

    await owner.execute("UPDATE job_workers SET seen_at = now() - interval '16 s' WHERE worker_id = 'wkr_1'")

    assert (await figures(queues)).slots == 8


class Signals:
    def __init__(self) -> None:
        self.changes: list[Job] = []

    def changed(self, job: Job) -> None:
        self.changes.append(job)

    def cancel(self, run: RunRef) -> None:
        raise AssertionError("a quarantined job does not run")


class TestQuarantine:
    @pytest.fixture
    def signals(self) -> Signals:
        return Signals()

    @pytest.fixture
    def woken(self) -> list[str]:
        return []

    @pytest.fixture
    def quarantine(
        self, database: Database, store: PostgresJobStore, signals: Signals, woken: list[str]
    ) -> Cancellations:
        return Cancellations(
            store=store,
            reader=PostgresJobReader(database),
            policy=POLICY,
            signals=signals,
            on_queued=lambda: woken.append("dispatcher"),
        )

    @pytest.fixture
    async def key(self, store: PostgresJobStore, owner: Any) -> JobKey:
        """A quarantined job."""
        (job,) = await running(store, a_job())
        await owner.execute("UPDATE jobs SET state = 'quarantined', crashes = 3, errors = 2")
        await owner.execute("UPDATE tenant_queues SET running = 0")
        return JobKey(job.run.tenant_id, job.run.job_id)

    async def test_a_retried_job_is_queued_with_fresh_counters_and_the_dispatcher_is_woken(
        self, quarantine: Cancellations, key: JobKey, signals: Signals, woken: list[str], owner: Any
    ) -> None:
        job = await quarantine.retry(key)

        assert (job.state, job.crashes, job.errors) == (JobState.QUEUED, 0, 0)
        assert (signals.changes, woken) == ([job], ["dispatcher"])
        assert not await wrong_counters(owner)

    async def test_a_dropped_job_has_failed_and_is_published(
        self, quarantine: Cancellations, key: JobKey, signals: Signals, owner: Any
    ) -> None:
        job = await quarantine.drop(key)

        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.reason == "JOB_DROPPED"
        assert signals.changes == [job]
        assert await owner.fetchval("SELECT count(*) FROM finished_jobs") == 1
        assert await owner.fetchval("SELECT count(*) FROM outbox WHERE topic LIKE '%job-finished%'") == 1
        assert not await wrong_counters(owner)

    async def test_only_a_quarantined_job_can_be_retried_or_dropped(
        self, quarantine: Cancellations, store: PostgresJobStore, key: JobKey
    ) -> None:
        (waiting,) = await submit(store, a_job())
        other = JobKey(waiting.tenant_id, waiting.job_id)
        await quarantine.drop(key)
        for action in (quarantine.retry, quarantine.drop):
            for refused in (other, key):
                with pytest.raises(JobNotQuarantined):
                    await action(refused)
            with pytest.raises(JobNotFound):
                await action(JobKey("ten_2", key.job_id))
