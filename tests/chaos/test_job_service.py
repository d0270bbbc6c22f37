"""How jobs are served: fairly, through restarts of their workers, and not after they are cancelled."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
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
    waits_among,
    waits_of,
)
from tests.chaos.jobs import (
    JobTenant,
    Submitted,
    ends_of,
    finished,
    jain,
    job_body,
    show,
    submit,
    unfinished,
    wait_until_drained,
)
from tests.chaos.journal import Journal
from tests.chaos.own_workers import own_workers
from tests.fleet.client import Fleet
from tests.fleet.control import start
from tests.fleet.environment import DRILL_POOL

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(1500), pytest.mark.asyncio(loop_scope="session")]


async def test_a_flood_of_one_tenant_leaves_the_others_their_share(fleet: Fleet, journal: Journal, long: bool) -> None:
    flood, small, others, slots = (5_000, 20, 9, 8) if long else (120, 8, 5, 2)
    await add_job_models(fleet, "job-steady")
    async with job_tenants(fleet, others + 2) as (flooding, urgent, *quiet), own_workers(fleet, 2, slots):

        async def submit_small(first: int) -> list[Submitted]:
            return await asyncio.gather(
                *(submit(fleet.base_url, one, "job-steady", range(first, first + small), lane="batch") for one in quiet)
            )

        # All of them wait when the dispatch begins: otherwise there would be nothing to share.
        async with paused_dispatch(fleet):
            alone = await submit_small(0)
        began_at = time.time()
        await wait_until_drained(fleet, [one.id for one in quiet], 120, may_stay=())
        alone_waits = await _waits_of_all(fleet, quiet, alone, began_at)

        async with paused_dispatch(fleet):
            await submit(fleet.base_url, flooding, "job-steady", range(flood), lane="batch")
            submitted = await submit_small(100)
        began_at = time.time()
        interactive = await submit_one_by_one(fleet.base_url, urgent, "job-steady", range(40 if long else 10))
        await wait_until_drained(fleet, [urgent.id, *(one.id for one in quiet)], 300, may_stay=())
        served = await _served(fleet, flooding, quiet, submitted)
        waits = await _waits_of_all(fleet, quiet, submitted, began_at)
        show(
            {
                "jobs": f"{flood} of one tenant, {small} of {others} each, {len(interactive.ids)} interactive",
                "Jain index while backlogged": f"{jain(served):.3f} of {served}",
                "wait of small tenants": f"{ends_of(waits, 95)}; without the flood {ends_of(alone_waits, 95)}",
                "wait of interactive": ends_of(waits_of(await finished(fleet, [urgent.id])), 95),
            }
        )
        assert jain(served) >= 0.95
        await wait_until_drained(fleet, [flooding.id], 900, may_stay=())


@asynccontextmanager
async def paused_dispatch(fleet: Fleet) -> AsyncIterator[None]:
    """Dispatch no job of the drills' pool during the block, as an operator may ask."""
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        (await admin.post("/admin/v1/queues/pause", json={"pool": DRILL_POOL})).raise_for_status()
        try:
            yield
        finally:
            (await admin.post("/admin/v1/queues/resume", json={"pool": DRILL_POOL})).raise_for_status()


async def submit_one_by_one(base_url: str, tenant: JobTenant, model: str, numbers: Iterable[int]) -> Submitted:
    """Submit interactive jobs, one after the other."""
    result = Submitted()
    for number in numbers:
        one = await submit(base_url, tenant, model, [number], lane="interactive")
        result.ids += one.ids
    return result


async def _waits_of_all(
    fleet: Fleet, tenants: Sequence[JobTenant], submitted: Sequence[Submitted], since: float
) -> list[float]:
    jobs = await finished(fleet, [tenant.id for tenant in tenants])
    return waits_among(jobs, [job_id for one in submitted for job_id in one.ids], since=since)


async def _served(
    fleet: Fleet, flooding: JobTenant, quiet: Sequence[JobTenant], submitted: Sequence[Submitted]
) -> list[int]:
    """Jobs of each tenant that began while all were backlogged: until the first small tenant's last job began."""
    jobs = await finished(fleet, [tenant.id for tenant in quiet])
    begun = [sorted(jobs[job_id].started_at for job_id in one.ids) for one in submitted]
    begin, end = min(times[0] for times in begun), min(times[-1] for times in begun)
    flood = [job.started_at for job in (await finished(fleet, [flooding.id])).values()]
    return [sum(begin <= at <= end for at in times) for times in (*begun, flood)]


async def test_rolling_restarts_consume_no_attempt(fleet: Fleet, journal: Journal, long: bool) -> None:
    restarts, jobs_at_once, model = (20, 50, "job-long-stream") if long else (2, 12, "job-stream")
    await add_job_models(fleet, model)
    async with job_tenants(fleet, 1) as (tenant,), own_workers(fleet, WORKERS, SLOTS, drain_seconds=30) as workers:
        submitted: list[Submitted] = []
        number = 0
        for restart in range(restarts):
            new = max(0, jobs_at_once - sum((await unfinished(fleet, [tenant.id])).values()))
            submitted.append(await submit(fleet.base_url, tenant, model, range(number, number + new), stream=True))
            number += new
            victim = workers[restart % len(workers)]
            pid = victim.pid
            await ledger_checks.wait_for("jobs run", 60, lambda: any_run(fleet, tenant.id))
            victim.send(signal.SIGTERM)
            await ledger_checks.wait_for("the worker is back", 90, partial(is_back, victim, pid))
        await wait_until_drained(fleet, [tenant.id], 180, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], submitted)
        show(
            {
                "restarts": restarts,
                "jobs": f"{len(jobs)}, {dict(Counter(job.state for job in jobs.values()))}",
                "attempts consumed": sum(job.errors + job.crashes for job in jobs.values()),
                "calls": paid.calls,
                "money": asdict(paid),
            }
        )
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert all((job.errors, job.crashes) == (0, 0) for job in jobs.values())
        assert_exact(paid)


async def any_run(fleet: Fleet, tenant: str) -> bool:
    return (await unfinished(fleet, [tenant]))["running"] > 0


async def test_rolling_restarts_fail_no_stream(fleet: Fleet, journal: Journal, long: bool) -> None:
    restarts, streams, model = (20, 50, "job-long-stream") if long else (2, 8, "job-stream")
    replicas = ("orchestrator", "inference-worker", "orchestrator-2", "inference-worker-2")
    await asyncio.to_thread(start, replicas)
    await add_job_models(fleet, model)
    async with job_tenants(fleet, 1) as (tenant,):
        over, ends = asyncio.Event(), Counter[str]()
        callers = [asyncio.create_task(stream_until(fleet, tenant, model, over, ends)) for _ in range(streams)]
        for restart in range(restarts):
            part = replicas[restart % len(replicas)]
            pid = fleet.pid_of(part)
            os.kill(pid, signal.SIGTERM)
            await ledger_checks.wait_for(f"{part} is back", 90, partial(_runs_again, fleet, part, pid))
        over.set()
        await asyncio.gather(*callers)
        show({"restarts": restarts, "streams at once": streams, "ends": dict(ends)})
        assert set(ends) == {"complete"}


async def stream_until(fleet: Fleet, tenant: JobTenant, model: str, over: asyncio.Event, ends: Counter[str]) -> None:
    """Read one stream after the other, and count how they end."""
    headers = {"authorization": f"Bearer {tenant.key}"}
    body = job_body(model, tenant.id, 0, stream=True)
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=headers, timeout=60) as http:
        while not over.is_set():
            try:
                response = await http.post("/v1/chat/completions", json=body)
            except httpx.TransportError as error:
                ends[type(error).__name__] += 1
                continue
            complete = response.status_code == 200 and response.text.rstrip().endswith("data: [DONE]")
            ends["complete" if complete and '"error"' not in response.text else response.text[-200:]] += 1


async def _runs_again(fleet: Fleet, part: str, pid: int) -> bool:
    """Whether a part has another process than before, and it is ready."""
    if fleet.pid_of(part) in {0, pid}:
        return False
    async with httpx.AsyncClient(timeout=5) as http:
        with suppress(httpx.TransportError):
            return (await http.get(f"http://127.0.0.1:{fleet.ports[f'{part}-ops']}/readyz")).status_code == 200
    return False


async def test_cancelled_jobs_stop_at_once_and_pay_what_they_used(fleet: Fleet, journal: Journal, long: bool) -> None:
    count, slots, model = (500, 62, "job-long-stream") if long else (60, 8, "job-stream")
    await add_job_models(fleet, model)
    async with job_tenants(fleet, 1) as (tenant,), own_workers(fleet, WORKERS, slots):
        submitted = await submit(fleet.base_url, tenant, model, range(count), stream=True)

        async def half_run() -> bool:
            return (await unfinished(fleet, [tenant.id]))["running"] >= min(WORKERS * slots, count) // 2

        await ledger_checks.wait_for("half of the jobs run", 60, half_run)
        asked = await cancel_all(fleet, tenant, submitted.ids)
        await wait_until_drained(fleet, [tenant.id], 60, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], [submitted])
        delays = [at - asked[submitted.by_number[number]] for number, at in journal.left_at(tenant.id).items()]
        show(
            {
                "cancelled": f"{sum(job.state == 'cancelled' for job in jobs.values())} of {len(jobs)}",
                "upstream closed after": f"{ends_of(delays)} of {len(delays)} calls",
                "money": asdict(paid),
            }
        )
        assert {job.state for job in jobs.values()} <= {"cancelled", "succeeded"}
        # What a cut stream used is counted, not reported: here, calls are compared by their number. A call that was
        # announced and not sent, because the cancellation came in between, is exposed.
        assert paid.calls <= paid.billed + paid.exposed <= len(jobs)
        assert paid.held == 0
        assert await ledger_checks.violations(fleet) == {}


async def cancel_all(fleet: Fleet, tenant: JobTenant, ids: Iterable[str]) -> dict[str, float]:
    """Cancel all jobs; return when each was asked for, in seconds since 1970."""
    headers = {"authorization": f"Bearer {tenant.key}"}
    asked: dict[str, float] = {}
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=headers, timeout=60) as http:
        waiting = iter(ids)

        async def canceller() -> None:
            for job_id in waiting:
                asked[job_id] = time.time()
                response = await http.post(f"/v1/jobs/{job_id}/cancel")
                assert response.status_code in {200, 409}, response.text

        await asyncio.gather(*(canceller() for _ in range(8)))
    return asked
