"""Kills workers that have jobs, and tells how long these jobs waited for their next run."""

import asyncio
import json
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from tests.chaos.jobs import FinishedJob, connected
from tests.chaos.own_process import OwnProcess
from tests.fleet.client import Fleet
from tests.fleet.environment import DRILL_POOL


class CutRun(NamedTuple):
    """A run that a killed worker had."""

    job_id: str
    killed_at: float
    """In seconds since 1970."""


@dataclass(slots=True)
class WorkerKiller:
    """Kills random workers while jobs run."""

    fleet: Fleet
    workers: Sequence[OwnProcess]
    rng: random.Random
    kills: int = 0
    _cut: list[CutRun] = field(default_factory=list)

    async def run(self, every_seconds: float, limit: int | None = None) -> None:
        """Kill one at an interval, if at least half of the workers are ready and jobs run, until this is cancelled.

        A worker needs some seconds to start. Without the condition a busy machine would have none to kill.
        """
        async with connected(self.fleet) as connection:
            while limit is None or self.kills < limit:
                await asyncio.sleep(every_seconds)
                ready = [worker for worker in self.workers if worker.pid]
                if 2 * len(ready) >= len(self.workers) and await _running(connection):
                    victim = self.rng.choice(ready)
                    worker_id = _worker_id(victim)
                    victim.send(signal.SIGKILL)
                    killed_at = time.time()
                    self.kills += 1
                    runs = (await _running(connection)).get(worker_id, [])
                    self._cut += [CutRun(job_id, killed_at) for job_id in runs]

    def redelivery_seconds(self, jobs: Mapping[str, FinishedJob]) -> list[float]:
        """Seconds from the kill of a job's worker to the claim of its next run, of the jobs that crashed once."""
        return [
            jobs[run.job_id].started_at - run.killed_at
            for run in self._cut
            if run.job_id in jobs and jobs[run.job_id].crashes == 1
        ]


async def _running(connection: asyncpg.Connection) -> Mapping[str, list[str]]:
    """The ids of running jobs by that of their worker."""
    rows = await connection.fetch(
        "SELECT worker_id, array_agg(job_id) AS jobs FROM orchestration.jobs WHERE pool = $1 AND state = 'running' "
        "GROUP BY worker_id",
        DRILL_POOL,
    )
    return {row["worker_id"]: row["jobs"] for row in rows}


def _worker_id(worker: OwnProcess) -> str:
    """The id under which the orchestrator knows the process that runs now: it has logged it at its start."""
    entry = next(line for line in reversed(Fleet.log_of(worker.name).splitlines()) if '"event":"jobs_worker"' in line)
    return str(json.loads(entry)["worker"])
