"""Two replicas do anything at once to the same jobs, and the books stay exact."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from argosy.metering.v1.events_pb2 import UsageRecorded
from argosy.orchestration.v1.events_pb2 import JobFinished
from chassis.errors import ArgosyError, Unavailable
from chassis.postgres import Database
from orchestrator.jobs.listing.postgres import PostgresJobReader
from orchestrator.jobs.model import RunRef
from orchestrator.jobs.outbox import JOB_FINISHED
from orchestrator.jobs.postgres import PostgresJobStore
from orchestrator.usage.outbox import USAGE_RECORDED

from services.orchestrator.tests.jobs_examples import wrong_counters
from services.orchestrator.tests.jobs_harness import ANSWER, USED, JobsHarness, tenant

STEPS, ACTORS = 40, 6


class Walk:
    """Actors that share what they know of dispatches and runs."""

    def __init__(self, replicas: list[JobsHarness], owner: Any, seed: int) -> None:
        self.replicas, self.owner = replicas, owner
        self.random = random.Random(seed)
        self.dispatched: list[RunRef] = []
        self.runs: list[RunRef] = []
        self.all_runs: set[RunRef] = set()
        self.refusals: list[str] = []
        self.steps: list[Callable[[JobsHarness], Awaitable[object]]] = [
            self.submit,
            self.submit,
            self.dispatch,
            self.claim,
            self.claim,
            self.heartbeat,
            self.complete,
            self.complete,
            self.fail,
            self.give_back,
            self.cancel,
            self.expire,
            self.reap,
        ]

    async def act(self) -> None:
        for _ in range(STEPS):
            try:
                await self.random.choice(self.steps)(self.random.choice(self.replicas))
            except ArgosyError as error:
                # A run that another actor has ended, and the like; a deadlock is no ArgosyError.
                self.refusals.append(error.reason)

    async def submit(self, jobs: JobsHarness) -> None:
        principal = tenant(f"ten_{self.random.randrange(3)}")
        await asyncio.gather(*(jobs.submit(principal=principal) for _ in range(self.random.randrange(1, 8))))

    async def dispatch(self, jobs: JobsHarness) -> None:
        self.dispatched += await jobs.dispatch(slots=20)

    async def claim(self, jobs: JobsHarness) -> None:
        batch, self.dispatched = self.dispatched[:5], self.dispatched[5:]
        results = await asyncio.gather(*(jobs.claims.claim(run, "wkr_1") for run in batch), return_exceptions=True)
        claimed = [result.run for result in results if not isinstance(result, BaseException)]
        self.runs += claimed
        self.all_runs |= set(claimed)

    def some_runs(self) -> list[RunRef]:
        return self.random.sample(self.runs, min(len(self.runs), 4))

    async def heartbeat(self, jobs: JobsHarness) -> None:
        await jobs.runs.heartbeat("wkr_1", "default", 20, self.some_runs())

    async def complete(self, jobs: JobsHarness) -> None:
        await self._each(lambda run: jobs.runs.complete(run, USED, ANSWER))

    async def fail(self, jobs: JobsHarness) -> None:
        await self._each(lambda run: jobs.runs.complete(run, USED, Unavailable("down")))

    async def give_back(self, jobs: JobsHarness) -> None:
        await self._each(lambda run: jobs.runs.give_back(run, USED))

    async def cancel(self, jobs: JobsHarness) -> None:
        for run in self.some_runs():
            await jobs.cancellations.cancel(run.key)

    async def expire(self, _: JobsHarness) -> None:
        await self.owner.execute(
            "UPDATE jobs SET due_at = now() WHERE job_id IN (SELECT job_id FROM jobs"
            " WHERE state IN ('running', 'dispatched') LIMIT 3 FOR UPDATE SKIP LOCKED)"
        )

    async def reap(self, jobs: JobsHarness) -> None:
        await jobs.reaper.run_once()

    async def _each(self, end: Callable[[RunRef], Awaitable[object]]) -> None:
        await asyncio.gather(*(end(run) for run in self.some_runs()), return_exceptions=True)


@pytest.mark.parametrize("seed", [int(os.environ.get("ARGOSY_SEED", "1"))])
async def test_a_random_walk_leaves_exact_counters_and_one_event_per_end(
    database: Database, store: PostgresJobStore, owner: Any, seed: int
) -> None:
    reader = PostgresJobReader(database)
    other = PostgresJobStore(database, on_written=lambda: None, on_dispatched=lambda: None)
    replicas = [JobsHarness(store, reader), JobsHarness(other, reader)]
    for number, replica in enumerate(replicas):
        await replica.runs.heartbeat(f"wkr_{number}", "default", 20, ())
    lock = asyncio.Lock()
    walk = Walk(replicas, _OneAtATime(owner, lock), seed)

    await asyncio.gather(*(walk.act() for _ in range(ACTORS)))
    for replica in replicas:
        await replica.peers.tasks.wait_idle()

    assert not await wrong_counters(owner)
    assert "SERVICE_UNAVAILABLE" not in walk.refusals
    events = await owner.fetch("SELECT topic, value FROM outbox")
    finished = [JobFinished.FromString(row["value"]).job.id for row in events if row["topic"] == JOB_FINISHED]
    usages = [UsageRecorded.FromString(row["value"]).request_id for row in events if row["topic"] == USAGE_RECORDED]
    in_table = [row["job_id"] for row in await owner.fetch("SELECT job_id FROM finished_jobs")]
    assert sorted(finished) == sorted(in_table)
    # How many depends on the machine: jobs that have crashed twice run one at a time.
    assert len(finished) > 5
    assert [run for run, count in Counter(usages).items() if count > 1] == []
    running = {row["request_id"] for row in await owner.fetch("SELECT request_id FROM jobs WHERE state = 'running'")}
    assert {run.request_id for run in walk.all_runs} <= set(usages) | running


class _OneAtATime:
    """A connection that several actors share."""

    def __init__(self, connection: Any, lock: asyncio.Lock) -> None:
        self._connection, self._lock = connection, lock

    async def execute(self, statement: str) -> None:
        async with self._lock:
            await self._connection.execute(statement)
