"""Jobs are accepted once, run once and paid once, whatever dies or hangs. The short forms run in `make test`.

Each drill prints its seed and a table. Workers are of a pool of their own, in processes that the drill kills, freezes
or restarts; the provider keeps a journal of its calls.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from pathlib import Path

import httpx
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
    read_outcome,
    waits_among,
    waits_of,
)
from tests.chaos.job_records import dead_letters, publish_undecodable
from tests.chaos.jobs import (
    JobTenant,
    connected,
    ends_of,
    finished,
    show,
    submit,
    unfinished,
    wait_until_drained,
    waiting_events,
)
from tests.chaos.journal import UPSTREAM, Journal, add_models
from tests.chaos.own_process import OwnProcess
from tests.chaos.own_workers import own_workers
from tests.chaos.worker_kills import WorkerKiller
from tests.fleet.client import Fleet
from tests.fleet.control import lose_kafka_data
from tests.fleet.environment import harness_ports

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(1500), pytest.mark.asyncio(loop_scope="session")]


async def test_jobs_survive_the_kills_of_their_workers(
    fleet: Fleet, journal: Journal, chaos_seed: int, long: bool
) -> None:
    rng = random.Random(chaos_seed)
    # Two kills cannot make a quarantine; of quick jobs hardly any is hit by three.
    count, model = (9_999, "job-quick") if long else (240, "job-half-second")
    print(f"seed {chaos_seed}: repeat with --seed {chaos_seed}")
    await add_job_models(fleet, model)
    async with job_tenants(fleet, 3) as tenants, own_workers(fleet, WORKERS, SLOTS) as workers:
        started = time.monotonic()
        killer = WorkerKiller(fleet, workers, rng)
        killing = asyncio.create_task(killer.run(2.0) if long else killer.run(0.5, limit=2))
        share = count // len(tenants)
        submitted = await asyncio.gather(*(submit(fleet.base_url, tenant, model, range(share)) for tenant in tenants))
        ids = [tenant.id for tenant in tenants]
        await wait_until_drained(fleet, ids, 1200 if long else 180)
        seconds = time.monotonic() - started
        killing.cancel()
        quarantined = await retry_quarantined(fleet, ids)
        await wait_until_drained(fleet, ids, 180, may_stay=())
        kills = killer.kills
        jobs, paid = await read_outcome(fleet, journal, ids, submitted)
        again = killer.redelivery_seconds(jobs)
        accepted = [seconds for one in submitted for seconds in one.seconds]
        show(
            {
                "jobs": f"{sum(len(one.ids) for one in submitted)} accepted, {len(jobs)} final, in {seconds:.0f} s",
                "states": dict(Counter(job.state for job in jobs.values())),
                "kills": kills,
                "quarantined, then retried": dict(quarantined),
                "jobs by crashes": dict(sorted(Counter(job.crashes for job in jobs.values()).items())),
                "calls": f"{paid.calls}, at most {count} + {kills} × {SLOTS}",
                "from kill to next run": f"{ends_of(again)} of {len(again)} runs",
                "money": asdict(paid),
                "submission": ends_of(accepted),
            }
        )
        assert kills > 0
        # Of ten thousand jobs, a few are on three killed workers: that many crashes make a quarantine, fewer do not.
        assert set(quarantined) <= {3}
        assert long or not quarantined
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert len(jobs) == count
        assert paid.calls <= count + kills * SLOTS
        assert_exact(paid)
        await assert_one_event_each(submitted, ids)


async def retry_quarantined(fleet: Fleet, tenants: Sequence[str]) -> Counter[int]:
    """Retry the quarantined jobs of tenants, as an operator does; count them by the crashes that they had."""
    crashes = Counter[int]()
    async with connected(fleet) as connection:
        rows = await connection.fetch(
            "SELECT tenant_id, job_id, crashes FROM orchestration.jobs "
            "WHERE tenant_id = ANY ($1) AND state = 'quarantined'",
            list(tenants),
        )
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        for row in rows:
            body = {"tenant_id": row["tenant_id"]}
            (await admin.post(f"/admin/v1/jobs/{row['job_id']}/retry", json=body)).raise_for_status()
            crashes[row["crashes"]] += 1
    return crashes


async def test_slow_calls_cause_no_rebalance_and_a_thawed_worker_writes_nothing(
    fleet: Fleet, journal: Journal, long: bool
) -> None:
    waits = (45, 120, 400) if long else (3,)
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
        lost = _lost_runs(workers)
        freeze = await submit(fleet.base_url, tenant, next(iter(models)), range(900, 912))
        await ledger_checks.wait_for("a job runs on each worker", 60, lambda: _all_busy(fleet, tenant.id, 3))
        async with frozen(workers[0].pid):
            await asyncio.sleep(40 if long else 10)
        await wait_until_drained(fleet, [tenant.id], 300, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], [*submitted, freeze])
        show(
            {
                "frozen": "one worker",
                "jobs": dict(Counter(job.state for job in jobs.values())),
                "calls": paid.calls,
                "runs given up when thawed": _lost_runs(workers) - lost,
                "money": asdict(paid),
            }
        )
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert_exact(paid)
        await assert_one_event_each([*submitted, freeze], [tenant.id])


async def _all_run(fleet: Fleet, tenant: str) -> bool:
    return (await unfinished(fleet, [tenant])).keys() == {"running"}


async def _all_busy(fleet: Fleet, tenant: str, workers: int) -> bool:
    async with connected(fleet) as connection:
        busy: int = await connection.fetchval(
            "SELECT count(DISTINCT worker_id) FROM orchestration.jobs WHERE tenant_id = $1 AND state = 'running'",
            tenant,
        )
    return busy == workers


def _assignments(workers: list[OwnProcess]) -> int:
    return sum(Fleet.log_of(worker.name).count("partitions_assigned") for worker in workers)


def _lost_runs(workers: list[OwnProcess]) -> int:
    return sum(Fleet.log_of(worker.name).count('"end":"lost"') for worker in workers)


@pytest.mark.degraded(down="Kafka", area="jobs", holds="even dispatches that Kafka lost are sent again")
async def test_jobs_are_accepted_while_kafka_hangs_and_run_after_its_data_is_lost(
    fleet: Fleet, journal: Journal, long: bool
) -> None:
    await add_job_models(fleet, "job-quick")
    async with job_tenants(fleet, 1) as (tenant,), own_workers(fleet, 2, SLOTS) as workers:

        async def all_dispatched() -> bool:
            states = await unfinished(fleet, [tenant.id])
            return states.keys() == {"dispatched"} and not await waiting_events(fleet)

        async with AsyncExitStack() as hanging:
            async with AsyncExitStack() as workers_hang:
                for worker in workers:
                    await workers_hang.enter_async_context(frozen(worker.pid))
                # Kafka has their records, and no worker does.
                lost = await submit(fleet.base_url, tenant, "job-quick", range(40))
                await ledger_checks.wait_for("all are dispatched", 30, all_dispatched)
                await hanging.enter_async_context(frozen(fleet.pid_of("kafka")))
            hung = await submit(fleet.base_url, tenant, "job-quick", range(100, 200))
            await asyncio.sleep(30 if long else 2)
            answers = await jobs_answered(fleet, tenant, [*lost.ids, *hung.ids])
            await asyncio.to_thread(lose_kafka_data)
        seconds = await wait_until_drained(fleet, [tenant.id], 240, may_stay=())
        jobs, paid = await read_outcome(fleet, journal, [tenant.id], [lost, hung])
        show(
            {
                "records lost": len(lost.ids),
                "accepted while Kafka hung": len(hung.ids),
                "submission meanwhile": ends_of(hung.seconds),
                "drained after its return": f"{seconds:.0f} s",
                "jobs": dict(Counter(job.state for job in jobs.values())),
                "money": asdict(paid),
            }
        )
        assert hung.refused == {}
        assert answers == {200: 140}
        assert len(jobs) == 140
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert_exact(paid)


async def jobs_answered(fleet: Fleet, tenant: JobTenant, ids: Iterable[str]) -> Counter[int]:
    """Read each job by the API, and count the statuses."""
    headers = {"authorization": f"Bearer {tenant.key}"}
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=headers, timeout=30) as http:
        return Counter([(await http.get(f"/v1/jobs/{job_id}")).status_code for job_id in ids])


async def test_poison_is_quarantined_and_the_others_hardly_wait(
    fleet: Fleet, journal: Journal, chaos_seed: int, long: bool
) -> None:
    count, bad_count, rate = (1_000, 10, 25.0) if long else (60, 1, 25.0)
    await add_job_models(fleet, "job-quick", "job-poison")
    async with job_tenants(fleet, 2) as (healthy, poisoned), own_workers(fleet, WORKERS, SLOTS) as workers:
        journal.poison.write_text("")
        await submit(fleet.base_url, healthy, "job-quick", range(count), per_second=rate)
        await wait_until_drained(fleet, [healthy.id], 180, may_stay=())
        before = waits_of(await finished(fleet, [healthy.id]))

        letters = await dead_letters()
        killed = list[int]()
        watcher = asyncio.create_task(kill_poisoned(workers, journal.poison, killed))
        await publish_undecodable(bad_count)
        bad, good = await asyncio.gather(
            submit(fleet.base_url, poisoned, "job-poison", range(bad_count), per_second=rate * bad_count / count),
            submit(fleet.base_url, healthy, "job-quick", range(count, 2 * count), per_second=rate),
        )
        await wait_until_drained(fleet, [healthy.id, poisoned.id], 600)
        watcher.cancel()
        jobs, left = await finished(fleet, [healthy.id]), await unfinished(fleet, [healthy.id, poisoned.id])
        beside = waits_among(jobs, good.ids)
        undecodable = (await dead_letters())[len(letters) :]
        show(
            {
                "healthy": f"{count} before, {len(good.ids)} beside {len(bad.ids)} poison",
                "wait until the last run": f"{ends_of(before, 95)} before, {ends_of(beside, 95)} beside poison",
                "jobs by crashes": dict(sorted(Counter(job.crashes for job in jobs.values()).items())),
                "kills": f"{len(killed)}, at most 3 × {len(bad.ids)}",
                "processes started": sum(worker.starts for worker in workers),
                "left": dict(left),
                "dead letters": dict(Counter(undecodable)),
            }
        )
        assert left == {"quarantined": len(bad.ids)}
        assert (await unfinished(fleet, [poisoned.id])) == left
        assert 3 <= len(killed) <= 3 * len(bad.ids)
        # None of them cost the start of a container.
        assert {worker.starts for worker in workers} == {1}
        assert len(jobs) == 2 * count
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert len(undecodable) == bad_count
        assert all(undecodable)


async def kill_poisoned(workers: list[OwnProcess], calls: Path, killed: list[int]) -> None:
    """Kill each worker that has called the provider for a poisonous job, as a crash of the interpreter does.

    `calls` has the ports of these calls; `killed` gets the processes.
    """
    seen = 0
    while True:
        ports = calls.read_text().split()
        for port in ports[seen:]:
            for pid in {worker.serving_pid for worker in workers} - {0, *killed}:
                if _has_connection(pid, int(port)):
                    killed.append(pid)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        seen = len(ports)
        await asyncio.sleep(0.05)


def _has_connection(pid: int, port: int) -> bool:
    """Whether a process calls the provider from a port. Connections with other peers may have the same one."""
    wanted = (port, harness_ports()[UPSTREAM])
    with suppress(psutil.Error):
        found = psutil.Process(pid).net_connections("tcp")
        # An end that has no address is an empty tuple.
        return any((getattr(one.laddr, "port", 0), getattr(one.raddr, "port", 0)) == wanted for one in found)
    return False
