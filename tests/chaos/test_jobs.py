"""Jobs are accepted once, run once and paid once, whatever dies or hangs. The short forms run in `make test`.

Each drill prints its seed and a table. Workers are of a pool of their own, in processes that the drill kills, freezes
or restarts; the provider keeps a journal of its calls.
"""

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from tests.chaos import ledger_checks
from tests.chaos.faults import frozen
from tests.chaos.job_drills import (
    PRICE,
    SLOTS,
    WORKERS,
    add_job_models,
    assert_exact,
    assert_one_event_each,
    job_tenants,
    kill_workers,
    read_outcome,
    waits_of,
)
from tests.chaos.jobs import (
    Submitted,
    finished,
    percentile,
    show,
    submit,
    unfinished,
    wait_until_drained,
)
from tests.chaos.journal import Journal, add_models
from tests.chaos.own_process import OwnProcess
from tests.chaos.own_workers import own_workers
from tests.fleet.client import Fleet
from tests.fleet.control import lose_kafka_data

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(1500), pytest.mark.asyncio(loop_scope="session")]


async def test_jobs_survive_the_kills_of_their_workers(
    fleet: Fleet, journal: Journal, chaos_seed: int, long: bool
) -> None:
    rng, count = random.Random(chaos_seed), 10_000 if long else 300
    print(f"seed {chaos_seed}: repeat with --seed {chaos_seed}")
    await add_job_models(fleet, "job-quick")
    async with job_tenants(fleet, 3) as tenants, own_workers(fleet, WORKERS, SLOTS) as workers:
        started = time.monotonic()
        killer = asyncio.create_task(kill_workers(workers, rng, 2.0))
        share = count // len(tenants)
        submitted = await asyncio.gather(
            *(submit(fleet.base_url, tenant, "job-quick", range(share)) for tenant in tenants)
        )
        ids = [tenant.id for tenant in tenants]
        await wait_until_drained(fleet, ids, 1200 if long else 180, may_stay=())
        seconds = time.monotonic() - started
        killer.cancel()
        kills = sum(worker.starts - 1 for worker in workers)
        jobs, paid = await read_outcome(fleet, journal, ids, submitted)
        show(
            {
                "jobs": f"{sum(len(one.ids) for one in submitted)} accepted, {len(jobs)} final, in {seconds:.0f} s",
                "states": {
                    state: sum(job.state == state for job in jobs.values()) for state in ("succeeded", "failed")
                },
                "kills": kills,
                "calls": f"{paid.calls}, at most {share * len(tenants)} + {kills} × {SLOTS}",
                "money": asdict(paid),
                "submission p50, p99": f"{percentile(_seconds(submitted), 50) * 1000:.0f} ms, "
                f"{percentile(_seconds(submitted), 99) * 1000:.0f} ms",
            }
        )
        assert kills > 0
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert len(jobs) == share * len(tenants)
        assert paid.calls <= share * len(tenants) + kills * SLOTS
        assert_exact(paid)
        await assert_one_event_each(submitted, ids)


def _seconds(submitted: list[Submitted]) -> list[float]:
    return [seconds for one in submitted for seconds in one.seconds]


async def test_slow_calls_cause_no_rebalance_and_a_thawed_worker_writes_nothing(
    fleet: Fleet, journal: Journal, long: bool
) -> None:
    waits = (45, 120, 400) if long else (8,)
    models = {f"job-wait-{wait}": (f"answer?wait={wait}",) for wait in waits}
    await add_models(fleet, models, {candidates[0]: PRICE for candidates in models.values()})
    async with job_tenants(fleet, 1) as (tenant,), own_workers(fleet, 3, 4) as workers:
        submitted = [
            await submit(fleet.base_url, tenant, model, range(10 * n, 10 * n + 3)) for n, model in enumerate(models)
        ]
        await ledger_checks.wait_for("all jobs run", 60, lambda: _all_run(fleet, tenant.id))
        before = _assignments(workers)
        await wait_until_drained(fleet, [tenant.id], max(waits) + 120, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], submitted)
        show(
            {
                "jobs": len(jobs),
                "calls": paid.calls,
                "rebalances": _assignments(workers) - before,
                "money": asdict(paid),
            }
        )
        assert _assignments(workers) == before
        assert paid.calls == len(jobs) == 3 * len(waits)
        assert_exact(paid)

        # A worker is frozen until its job runs elsewhere; thawed, its reports are refused.
        freeze = await submit(fleet.base_url, tenant, next(iter(models)), range(900, 903))
        await ledger_checks.wait_for("all jobs run", 60, lambda: _all_run(fleet, tenant.id))
        async with frozen(workers[0].pid):
            await asyncio.sleep(40 if long else 25)
        await wait_until_drained(fleet, [tenant.id], 300, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], [*submitted, freeze])
        refused = sum("job_lease_lost" in _log(worker).lower() for worker in workers)
        show({"frozen": "one worker", "jobs": len(jobs), "calls": paid.calls, "stale reports logged": refused})
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert_exact(paid)
        await assert_one_event_each([*submitted, freeze], [tenant.id])


async def _all_run(fleet: Fleet, tenant: str) -> bool:
    return (await unfinished(fleet, [tenant])).keys() == {"running"}


def _log(worker: OwnProcess) -> str:
    return Fleet.log_of(worker.name)


def _assignments(workers: list[OwnProcess]) -> int:
    return sum(_log(worker).count("partitions_assigned") for worker in workers)


async def test_jobs_are_accepted_while_kafka_hangs_and_run_after_its_data_is_lost(
    fleet: Fleet, journal: Journal, long: bool
) -> None:
    await add_job_models(fleet, "job-quick")
    async with job_tenants(fleet, 1) as (tenant,), own_workers(fleet, 2, SLOTS):
        first = await submit(fleet.base_url, tenant, "job-quick", range(100))
        async with frozen(fleet.pid_of("kafka")):
            hung = await submit(fleet.base_url, tenant, "job-quick", range(100, 200))
            await asyncio.sleep(30 if long else 5)
            assert hung.refused == {}
        await asyncio.to_thread(lose_kafka_data)
        returned = time.monotonic()
        seconds = await wait_until_drained(fleet, [tenant.id], 240, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], [first, hung])
        show(
            {
                "accepted while Kafka hung": len(hung.ids),
                "drained after its return": f"{time.monotonic() - returned:.0f} s ({seconds:.0f} s of waiting)",
                "jobs": len(jobs),
                "money": asdict(paid),
            }
        )
        assert len(jobs) == 200
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert_exact(paid)


async def test_poison_is_quarantined_and_the_others_hardly_wait(
    fleet: Fleet, journal: Journal, chaos_seed: int, long: bool
) -> None:
    count = 400 if long else 60
    await add_job_models(fleet, "job-quick")
    await add_job_models(fleet, "job-poison")
    async with job_tenants(fleet, 2) as (healthy, poisoned), own_workers(fleet, WORKERS, SLOTS) as workers:
        journal.poison.write_text("")
        baseline = await submit(fleet.base_url, healthy, "job-quick", range(count))
        await wait_until_drained(fleet, [healthy.id], 180, may_stay=())
        quiet_wait = percentile(waits_of(await finished(fleet, [healthy.id])), 95)

        watcher = asyncio.create_task(kill_poisoned(workers, journal.poison))
        bad = await submit(fleet.base_url, poisoned, "job-poison", range(max(1, count // 100)))
        good = await submit(fleet.base_url, healthy, "job-quick", range(count, 2 * count))
        await wait_until_drained(fleet, [healthy.id, poisoned.id], 300)
        watcher.cancel()
        jobs = await finished(fleet, [healthy.id])
        waits = waits_of({job_id: job for job_id, job in jobs.items() if job_id in set(good.ids)})
        left = await unfinished(fleet, [poisoned.id])
        kills = sum(worker.starts - 1 for worker in workers)
        show(
            {
                "healthy": f"{len(baseline.ids)} before, {len(good.ids)} beside {len(bad.ids)} poison",
                "p95 wait": f"{quiet_wait:.2f} s before, {percentile(waits, 95):.2f} s beside poison",
                "kills": f"{kills}, at most 3 × {len(bad.ids)}",
                "quarantined": dict(left),
            }
        )
        assert left == {"quarantined": len(bad.ids)}
        assert kills <= 3 * len(bad.ids)
        assert len(jobs) == 2 * count
        assert {job.state for job in jobs.values()} == {"succeeded"}


async def kill_poisoned(workers: list[OwnProcess], calls: Path) -> None:
    """Kill each worker that has called the provider for a poisonous job; `calls` has the ports of these calls."""
    seen = 0
    while True:
        ports = calls.read_text().split()
        for port in ports[seen:]:
            for worker in workers:
                if worker.pid and _has_connection(worker.pid, int(port)):
                    with suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGKILL)
        seen = len(ports)
        await asyncio.sleep(0.05)


def _has_connection(pid: int, port: int) -> bool:
    with suppress(psutil.Error):
        return any(getattr(one.laddr, "port", 0) == port for one in psutil.Process(pid).net_connections("tcp"))
    return False
