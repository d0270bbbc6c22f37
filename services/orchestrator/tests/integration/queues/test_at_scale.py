"""The figures of queues with many jobs: exact, and read in one statement whose time does not follow their number.

20,000 jobs by default; with `TESTS_QUEUE_JOBS=1000000` in the environment and `pytest -rP` it measures with a million.
"""

import os
import statistics
import sys
from datetime import timedelta
from time import perf_counter
from typing import Any

from chassis.postgres import Database
from orchestrator.jobs.model import Lane
from orchestrator.jobs.postgres import PostgresJobStore
from orchestrator.queues.postgres import PostgresQueueStore

from services.orchestrator.tests.jobs_examples import LEASE, wrong_counters

JOBS = int(os.environ.get("TESTS_QUEUE_JOBS", "20000"))
TENANTS = max(10, JOBS // 500)
READS = 50
RUN_TIME = timedelta(seconds=2)

FILL_JOBS = """
INSERT INTO jobs (tenant_id, job_id, project_id, key_id, endpoint, model, body, pool, lane, cost_tokens, deadline_at,
    due_at, fingerprint, retention, state)
SELECT 'ten_' || n % $2, 'job_' || lpad(n::text, 9, '0'), 'prj_1', 'key_1', '/v1/chat/completions', 'smollm2',
    convert_to(repeat('x', 200), 'UTF8'), CASE WHEN n % 10 = 0 THEN 'gpu' ELSE 'default' END,
    (ARRAY['interactive', 'standard', 'batch', 'batch'])[1 + n / 10 % 4], 100 + n % 900, now() + interval '1 day',
    now() - make_interval(secs => ($1 - n) / 1000.0), 'f', interval '3 days',
    CASE WHEN n % 1000 = 7 THEN 'dispatched' WHEN n % 1000 = 9 THEN 'running' ELSE 'queued' END
FROM generate_series(1, $1::int) AS n
"""
FILL_FINISHED = """
INSERT INTO finished_jobs (tenant_id, job_id, expires_on, project_id, endpoint, model, pool, lane, fingerprint, state,
    epoch, errors, crashes, created_at, deadline_at, started_at, finished_at, expires_at, result)
SELECT 'ten_' || n % $2, 'job_f' || lpad(n::text, 9, '0'), current_date + 1, 'prj_1', '/v1/chat/completions', 'smollm2',
    'default', 'batch', 'f', 'succeeded', 2, 0, 0, now(), now(), at - interval '2 s', at, now() + interval '1 day',
    convert_to(repeat('y', 200), 'UTF8')
FROM (SELECT n, now() - make_interval(secs => ($1 - n) / 250.0) AS at FROM generate_series(1, $1::int) AS n) AS made
"""
FILL_COUNTERS = """
INSERT INTO tenant_queues (tenant_id, pool, lane, queued, queued_tokens, dispatched, running)
SELECT tenant_id, pool, lane, count(*) FILTER (WHERE state = 'queued'),
    coalesce(sum(cost_tokens) FILTER (WHERE state = 'queued'), 0), count(*) FILTER (WHERE state = 'dispatched'),
    count(*) FILTER (WHERE state = 'running')
FROM jobs GROUP BY tenant_id, pool, lane
"""
BY_COUNTING = """
SELECT pool, lane, count(*) FILTER (WHERE state = 'queued') AS queued,
    coalesce(sum(cost_tokens) FILTER (WHERE state = 'queued'), 0)::bigint AS tokens,
    count(*) FILTER (WHERE state = 'dispatched') AS dispatched, count(*) FILTER (WHERE state = 'running') AS running,
    count(DISTINCT tenant_id) FILTER (WHERE state = 'queued') AS tenants,
    now() - min(due_at) FILTER (WHERE state = 'queued' AND due_at <= now()) AS oldest_wait
FROM jobs GROUP BY pool, lane ORDER BY pool, array_position(ARRAY['interactive', 'standard', 'batch'], lane)
"""


async def fill(owner: Any) -> None:
    await owner.execute("DELETE FROM jobs; DELETE FROM finished_jobs; DELETE FROM tenant_queues")  # of other tests
    for statement in (FILL_JOBS, FILL_FINISHED):
        await owner.execute(statement, JOBS, TENANTS, timeout=1800)
    await owner.execute(FILL_COUNTERS, timeout=600)
    for table in ("jobs", "finished_jobs", "tenant_queues"):
        await owner.execute(f"VACUUM ANALYZE {table}", timeout=1800)


def report(seconds: list[float]) -> None:
    quantiles = statistics.quantiles(seconds, n=20)
    least, half, most = (1000 * value for value in (min(seconds), quantiles[9], quantiles[18]))
    sys.stdout.write(
        f"{JOBS:,} unfinished and {JOBS:,} finished jobs of {TENANTS:,} tenants, {READS} reads of all figures:\n"
        f"min {least:.1f} ms, p50 {half:.1f} ms, p95 {most:.1f} ms; load average {os.getloadavg()[0]:.1f}\n"
    )


async def test_figures_are_exact_and_their_time_is_reported(
    database: Database, store: PostgresJobStore, owner: Any
) -> None:
    await fill(owner)
    # The rows above are minutes old by the time that a million of them are there.
    await owner.execute(FILL_FINISHED.replace("job_f", "job_g"), 100, TENANTS)
    await store.heartbeat("wkr_1", "default", 64, (), LEASE)
    queues = PostgresQueueStore(database)

    seconds = []
    for _ in range(READS):
        began = perf_counter()
        read = await queues.read_figures()
        seconds.append(perf_counter() - began)

    report(seconds)

    counted = await owner.fetch(BY_COUNTING, timeout=600)
    assert [(q.pool, q.lane.value, q.queued, q.queued_tokens, q.dispatched, q.running, q.tenants) for q in read] == [
        tuple(row)[:-1] for row in counted
    ]
    for queue, row in zip(read, counted, strict=True):
        assert queue.oldest_wait is not None
        assert abs((queue.oldest_wait - row["oldest_wait"]).total_seconds()) < 60  # read a little earlier
    assert not await wrong_counters(owner)
    assert {queue.mean_run for queue in read if queue.lane is Lane.BATCH and queue.pool == "default"} == {RUN_TIME}
