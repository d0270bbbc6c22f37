"""What the drills of jobs share: tenants of the drills' pool, models, and what must hold in the end."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.chaos import ledger_checks
from tests.chaos.jobs import FinishedJob, JobTenant, Money, Submitted, finished, finished_events, money
from tests.chaos.journal import Journal, add_models
from tests.chaos.own_process import OwnProcess
from tests.fleet.client import Fleet
from tests.fleet.environment import DRILL_POOL

PRICE = (1_000_000, 10_000_000)
ROUTES = {
    "job-quick": "answer?wait=0.2",
    "job-stream": "answer?wait=0.5&chunks=20&interval=0.5",
    "job-poison": "poison",
}
WORKERS, SLOTS = 4, 16
QUIET = {"a reservation is held", "an event waits in an outbox"}


async def add_job_models(fleet: Fleet, *names: str) -> None:
    """Route and price models of the drills."""
    await add_models(fleet, {name: (ROUTES[name],) for name in names}, {ROUTES[name]: PRICE for name in names})


@asynccontextmanager
async def job_tenants(fleet: Fleet, count: int) -> AsyncIterator[list[JobTenant]]:
    """Tenants whose plan names the pool of the drills."""
    yield [JobTenant(*await fleet.create_tenant(plan=DRILL_POOL)) for _ in range(count)]


async def read_outcome(
    fleet: Fleet, journal: Journal, tenants: list[str], submitted: list[Submitted]
) -> tuple[dict[str, FinishedJob], Money]:
    """Wait until nothing is held or unpublished, and read both sides."""

    async def quiet() -> bool:
        return not (await ledger_checks.violations(fleet)).keys() & {
            "a reservation is held",
            "an event waits in an outbox",
        }

    await ledger_checks.wait_for("all leases have ended and the outbox is empty", 120, quiet)
    jobs = await finished(fleet, tenants)
    assert set(jobs) <= {job_id for one in submitted for job_id in one.ids}
    return jobs, await money(fleet, journal, tenants)


def assert_exact(paid: Money) -> None:
    """Nothing is billed twice, nor without a call, and no answered call is free."""
    assert (paid.billed_twice, paid.billed_without_call, paid.answered_unsettled, paid.held) == (0, 0, 0, 0), paid


async def assert_one_event_each(submitted: list[Submitted], tenants: list[str]) -> None:
    events = await finished_events(tenants)
    assert events == dict.fromkeys((job_id for one in submitted for job_id in one.ids), 1)


def waits_of(jobs: dict[str, FinishedJob]) -> list[float]:
    return [job.started_at - job.created_at for job in jobs.values()]


async def is_back(worker: OwnProcess, pid: int) -> bool:
    return worker.pid not in (0, pid)


async def kill_workers(workers: list[OwnProcess], rng: random.Random, every_seconds: float) -> int:
    """Kill a random worker at an interval, until this is cancelled; the count is in `kills`."""
    while True:
        await asyncio.sleep(every_seconds)
        victims = [worker for worker in workers if worker.pid]
        if victims:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(victims).pid, signal.SIGKILL)
