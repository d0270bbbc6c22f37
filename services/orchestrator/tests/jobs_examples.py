"""Jobs for tests, and the wiring of a store on a real Postgres."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from chassis.ids import new_id
from orchestrator.jobs.fair_share import choose
from orchestrator.jobs.model import Endpoint, Job, Lane, NewJob, RunRef
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.ports import JobStore
from orchestrator.jobs.rounds import Dispatched, DispatchPlan
from orchestrator.jobs.runs import ClaimedJob, Run
from orchestrator.jobs.settle import Draw
from orchestrator.reservations.attempts import AttemptsRecord
from orchestrator.reservations.model import Reservation, TokenBound
from values.money import NanoUsd, Price

LEASE, CLAIM_WITHIN = timedelta(seconds=15), timedelta(seconds=30)
POLICY = JobPolicy()
BODY = b'{"model":"smollm2","messages":[{"role":"user","content":"Who sails an argosy?"}]}'
PRICE = Price("local/smollm2-135m-instruct", "prc_1", NanoUsd(50_000_000), NanoUsd(200_000_000))
RECORD = AttemptsRecord(
    Reservation(NanoUsd(1_000_000), (PRICE,)), (TokenBound("local/smollm2-135m-instruct", 1_000, 1_000),)
)
_events = itertools.count(1)


def a_job(tenant_id: str = "ten_1", **changes: Any) -> NewJob:
    fields: dict[str, Any] = {
        "tenant_id": tenant_id,
        "job_id": new_id("job_"),
        "project_id": "prj_1",
        "key_id": "key_1",
        "user_id": "usr_1",
        "plan": "pro",
        "endpoint": Endpoint.CHAT,
        "model": "smollm2",
        "body": BODY,
        "metadata": {"for": "tests"},
        "pool": "default",
        "lane": Lane.STANDARD,
        "cost_tokens": 100,
        "deadline": timedelta(hours=1),
        "retention": timedelta(days=3),
        "max_queued": 1_000,
        "fingerprint": b"fingerprint",
    }
    return NewJob(**(fields | changes))


def draw() -> Draw:
    return Draw(f"evt_{next(_events)}", 0.5)


async def submit(store: JobStore, *jobs: NewJob) -> list[Job]:
    results = await store.submit(jobs)
    return [result for result in results if isinstance(result, Job)]


async def dispatch(
    store: JobStore, slots: int = 50, worker_id: str = "wkr_1", pool: str = "default"
) -> list[Dispatched]:
    """Advertise slots, and dispatch what has room."""
    await store.heartbeat(worker_id, pool, slots, (), LEASE)
    dispatched: list[Dispatched] = []
    for queues in await store.waiting():
        choice = choose(queues.slots, queues.lanes)
        jobs = [
            (run, share.lane)
            for share in choice.shares
            for run in queues.heads[share.lane, share.tenant_id][: share.count]
        ]
        plan = DispatchPlan(
            queues.pool, queues.round, tuple(run for run, _ in jobs), dict(jobs), choice.deficits, queues.now
        )
        dispatched += await store.dispatch(plan, CLAIM_WITHIN) or []
    return dispatched


async def claim(store: JobStore, runs: Sequence[RunRef], worker_id: str = "wkr_1") -> list[ClaimedJob]:
    """Claim dispatches, and store the records of their runs."""
    results = await store.claim([(run, worker_id) for run in runs], LEASE)
    claimed = [result for result in results if isinstance(result, ClaimedJob)]
    await store.save_runs([(one.run, RECORD) for one in claimed], LEASE)
    return claimed


async def running(store: JobStore, *jobs: NewJob) -> list[ClaimedJob]:
    """Submit jobs, and have them claimed."""
    await submit(store, *(jobs or (a_job(),)))
    return await claim(store, [one.run for one in await dispatch(store)])


COUNTERS = ("queued", "queued_tokens", "dispatched", "running")

COUNTED = """
SELECT tenant_id, pool, lane, count(*) FILTER (WHERE state = 'queued') AS queued,
    coalesce(sum(cost_tokens) FILTER (WHERE state = 'queued'), 0)::bigint AS queued_tokens,
    count(*) FILTER (WHERE state = 'dispatched') AS dispatched, count(*) FILTER (WHERE state = 'running') AS running
FROM jobs GROUP BY tenant_id, pool, lane
"""


async def wrong_counters(owner: Any) -> Mapping[tuple[str, ...], tuple[Any, Any]]:
    """Compare the counters of all queues with the jobs; return those that differ."""

    def by_key(rows: Sequence[Any]) -> dict[tuple[str, ...], tuple[int, ...]]:
        counts = {(row["tenant_id"], row["pool"], row["lane"]): tuple(row[name] for name in COUNTERS) for row in rows}
        return {key: values for key, values in counts.items() if any(values)}

    kept = by_key(await owner.fetch("SELECT * FROM tenant_queues"))
    counted = by_key(await owner.fetch(COUNTED))
    return {
        key: (kept.get(key), counted.get(key))
        for key in kept.keys() | counted.keys()
        if kept.get(key) != counted.get(key)
    }


async def only_run(store: JobStore, claimed: ClaimedJob) -> Run:
    """Read the one run of a claimed job."""
    (run,) = await store.running([claimed.run])
    assert run is not None
    return run
