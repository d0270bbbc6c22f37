"""What the drills of jobs share: tenants of the drills' pool, models, kills, and what must hold in the end."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from tests.chaos import ledger_checks
from tests.chaos.jobs import FinishedJob, JobTenant, Money, Submitted, finished, finished_events, money
from tests.chaos.journal import Journal, add_models
from tests.chaos.own_process import OwnProcess
from tests.fleet.client import Fleet
from tests.fleet.environment import DRILL_POOL

PRICE = (1_000_000, 10_000_000)
ROUTES = {
    # So quick that a job is hardly ever running when its worker is killed for the third time.
    "job-quick": "answer?wait=0.02",
    "job-steady": "answer?wait=0.1",
    "job-half-second": "answer?wait=0.5",
    "job-stream": "answer?wait=0.2&chunks=12&interval=0.25",
    "job-long-stream": "answer?wait=0.5&chunks=36&interval=0.33",
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
        return not (await ledger_checks.violations(fleet)).keys() & QUIET

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


def waits_of(jobs: dict[str, FinishedJob], *, since: float = 0.0) -> list[float]:
    """Seconds from the acceptance of each job, or from `since` if that was later, to the begin of its last run."""
    return [job.started_at - max(job.created_at, since) for job in jobs.values()]


def waits_among(jobs: dict[str, FinishedJob], ids: Iterable[str], *, since: float = 0.0) -> list[float]:
    """The waits of some of the jobs."""
    wanted = set(ids)
    return waits_of({job_id: job for job_id, job in jobs.items() if job_id in wanted}, since=since)


async def is_back(worker: OwnProcess, pid: int) -> bool:
    return worker.pid not in (0, pid)
