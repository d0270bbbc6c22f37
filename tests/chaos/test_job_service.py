"""How jobs are served: fairly, through restarts of their workers, and not after they are cancelled."""

import asyncio
import os
import signal
import time
from dataclasses import asdict
from functools import partial

import httpx
import pytest

from tests.chaos import ledger_checks
from tests.chaos.job_drills import (
    SLOTS,
    WORKERS,
    add_job_models,
    assert_exact,
    is_back,
    job_tenants,
    read_outcome,
    waits_of,
)
from tests.chaos.jobs import (
    FinishedJob,
    JobTenant,
    Submitted,
    finished,
    jain,
    percentile,
    show,
    submit,
    unfinished,
    wait_until_drained,
)
from tests.chaos.journal import Journal
from tests.chaos.own_workers import own_workers
from tests.fleet.client import Fleet
from tests.fleet.control import start

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(1500), pytest.mark.asyncio(loop_scope="session")]


async def test_a_flood_of_one_tenant_leaves_the_others_their_share(fleet: Fleet, journal: Journal, long: bool) -> None:
    flood, small, others = (5_000, 20, 9) if long else (300, 5, 5)
    await add_job_models(fleet, "job-quick")
    async with job_tenants(fleet, others + 2) as tenants, own_workers(fleet, 2, 8):
        flooding, urgent, quiet = tenants[0], tenants[1], tenants[2:]
        alone = await submit(fleet.base_url, quiet[0], "job-quick", range(small), lane="batch")
        await wait_until_drained(fleet, [quiet[0].id], 60, may_stay=())
        alone_wait = percentile(waits_of(await finished(fleet, [quiet[0].id])), 95)

        flooded = await submit(fleet.base_url, flooding, "job-quick", range(flood), lane="batch")
        submitted = await asyncio.gather(
            *(submit(fleet.base_url, tenant, "job-quick", range(100, 100 + small), lane="batch") for tenant in quiet)
        )
        interactive = await submit(fleet.base_url, urgent, "job-quick", range(40 if long else 10), lane="interactive")
        await wait_until_drained(fleet, [urgent.id, *(tenant.id for tenant in quiet)], 300, may_stay=())
        served = await _served(fleet, flooding, quiet, submitted)
        waits = [
            wait
            for tenant, one in zip(quiet, submitted, strict=True)
            for wait in waits_of(
                {i: job for i, job in (await finished(fleet, [tenant.id])).items() if i in set(one.ids)}
            )
        ]
        urgent_waits = waits_of(await finished(fleet, [urgent.id]))
        show(
            {
                "jobs": f"{len(flooded.ids)} of one tenant, {small} of {others} each, {len(interactive.ids)} interactive",
                "Jain index while backlogged": f"{jain(served):.3f} of {served}",
                "p95 wait of small tenants": f"{percentile(waits, 95):.2f} s; alone, {len(alone.ids)} jobs: "
                f"{alone_wait:.2f} s",
                "p95 wait of interactive": f"{percentile(urgent_waits, 95) * 1000:.0f} ms",
            }
        )
        assert jain(served) >= 0.95
        await wait_until_drained(fleet, [flooding.id], 600, may_stay=())


async def _served(fleet: Fleet, flooding: JobTenant, quiet: list[JobTenant], submitted: list[Submitted]) -> list[int]:
    """Jobs of each tenant that began while all were backlogged: until the first small tenant's last job began."""
    begun = {
        tenant.id: sorted(
            job.started_at for i, job in (await finished(fleet, [tenant.id])).items() if i in set(one.ids)
        )
        for tenant, one in zip(quiet, submitted, strict=True)
    }
    begin = min(times[0] for times in begun.values())
    end = min(times[-1] for times in begun.values())
    others = sorted(job.started_at for job in (await finished(fleet, [flooding.id])).values())
    return [
        *(sum(begin <= at <= end for at in times) for times in begun.values()),
        sum(begin <= at <= end for at in others),
    ]


async def test_rolling_restarts_consume_no_attempt(fleet: Fleet, journal: Journal, long: bool) -> None:
    restarts, jobs_at_once = (20, 50) if long else (3, 12)
    await asyncio.to_thread(start, ("inference-worker", "inference-worker-2"))
    await add_job_models(fleet, "job-stream")
    async with job_tenants(fleet, 1) as (tenant,), own_workers(fleet, WORKERS, SLOTS, drain_seconds=30) as workers:
        submitted: list[Submitted] = []
        number = 0
        for restart in range(restarts):
            waiting = sum((await unfinished(fleet, [tenant.id])).values())
            new = max(0, jobs_at_once - waiting)
            submitted.append(
                await submit(fleet.base_url, tenant, "job-stream", range(number, number + new), stream=True)
            )
            number += new
            victim = workers[restart % len(workers)]
            pid = victim.pid
            if pid:
                os.kill(pid, signal.SIGTERM)
                await ledger_checks.wait_for("the worker is back", 90, partial(is_back, victim, pid))
        await wait_until_drained(fleet, [tenant.id], 180, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], submitted)
        show(
            {
                "restarts": restarts,
                "jobs": f"{len(jobs)}, {sum(job.state == 'succeeded' for job in jobs.values())} succeeded",
                "attempts consumed": sum(job.errors + job.crashes for job in jobs.values()),
                "calls": paid.calls,
            }
        )
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert all((job.errors, job.crashes) == (0, 0) for job in jobs.values())
        assert_exact(paid)


async def test_cancelled_jobs_stop_at_once_and_pay_what_they_used(fleet: Fleet, journal: Journal, long: bool) -> None:
    count = 500 if long else 60
    await add_job_models(fleet, "job-stream")
    async with job_tenants(fleet, 1) as (tenant,), own_workers(fleet, WORKERS, SLOTS):
        submitted = await submit(fleet.base_url, tenant, "job-stream", range(count), stream=True)
        slots = WORKERS * SLOTS

        async def half_run() -> bool:
            return (await unfinished(fleet, [tenant.id]))["running"] >= min(slots, count) // 2

        await ledger_checks.wait_for("half of the jobs run", 60, half_run)
        asked = await cancel_all(fleet, tenant, submitted.ids)
        await wait_until_drained(fleet, [tenant.id], 60, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], [submitted])
        delays = _stop_delays(journal, tenant.id, jobs, asked)
        show(
            {
                "cancelled": f"{sum(job.state == 'cancelled' for job in jobs.values())} of {len(jobs)}",
                "upstream closed after": f"p50 {percentile(delays, 50):.2f} s, p99 {percentile(delays, 99):.2f} s "
                f"of {len(delays)} calls",
                "money": asdict(paid),
            }
        )
        assert {job.state for job in jobs.values()} <= {"cancelled", "succeeded"}
        assert paid.held == 0
        assert paid.billed_without_call == 0
        assert await ledger_checks.violations(fleet) == {}


async def cancel_all(fleet: Fleet, tenant: JobTenant, ids: list[str]) -> float:
    """Cancel all jobs; return the time at which the last cancellation was answered."""
    headers = {"authorization": f"Bearer {tenant.key}"}
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=headers, timeout=60) as http:
        waiting = iter(ids)

        async def canceller() -> None:
            for job_id in waiting:
                response = await http.post(f"/v1/jobs/{job_id}/cancel")
                assert response.status_code in {200, 409}, response.text

        await asyncio.gather(*(canceller() for _ in range(16)))
    return time.time()


def _stop_delays(journal: Journal, tenant: str, jobs: dict[str, FinishedJob], asked: float) -> list[float]:
    """Seconds from the last cancellation to the end of each call that was cut; 0 for those that ended before."""
    return [max(0.0, end - asked) for end in journal.ends([tenant], how="left")]
