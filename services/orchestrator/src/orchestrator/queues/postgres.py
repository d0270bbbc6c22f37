"""Queues in Postgres. Depths are counters that the transactions of jobs keep; no job is read to count it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from chassis.postgres import Database

from orchestrator.jobs.model import Lane
from orchestrator.queues.model import PauseSelector, QueueFigures
from orchestrator.queues.run_times import RunTimes

# The oldest due job of a lane is one entry of an index. Pauses of models are not counted: no counter is by model.
FIGURES: Final = """
WITH counted AS (
    SELECT pool, lane, sum(queued)::bigint AS queued, coalesce(sum(queued) FILTER (WHERE EXISTS (
            SELECT FROM queue_pauses AS p
            WHERE p.tenant_id IN ('*', q.tenant_id) AND p.pool IN ('', q.pool) AND p.model = ''
        )), 0)::bigint AS paused, sum(queued_tokens)::bigint AS queued_tokens,
        sum(dispatched)::bigint AS dispatched, sum(running)::bigint AS running,
        count(*) FILTER (WHERE queued > 0) AS tenants
    FROM tenant_queues AS q GROUP BY pool, lane
), workers AS (
    SELECT pool, sum(slots)::bigint AS slots FROM job_workers
    WHERE tenant_id = '*' AND seen_at > now() - interval '15 seconds' GROUP BY pool
), queues AS (
    SELECT pool, lane FROM counted WHERE queued + dispatched + running > 0
    UNION SELECT pool, lane FROM workers CROSS JOIN unnest(ARRAY['interactive', 'standard', 'batch']) AS lane
)
SELECT pool, lane, coalesce(c.queued, 0) AS queued, coalesce(c.paused, 0) AS paused,
    coalesce(c.queued_tokens, 0) AS queued_tokens,
    coalesce(c.dispatched, 0) AS dispatched, coalesce(c.running, 0) AS running, coalesce(c.tenants, 0) AS tenants,
    coalesce(w.slots, 0) AS slots, now() - oldest.due_at AS oldest_wait
FROM queues LEFT JOIN counted AS c USING (pool, lane) LEFT JOIN workers AS w USING (pool)
LEFT JOIN LATERAL (
    SELECT due_at FROM jobs AS j
    WHERE j.pool = queues.pool AND j.lane = queues.lane AND j.state = 'queued' AND j.due_at <= now()
    ORDER BY due_at LIMIT 1
) AS oldest ON c.queued > 0
ORDER BY pool, array_position(ARRAY['interactive', 'standard', 'batch'], lane)
"""
# Only jobs since the last look: an index has them in the order of this time.
RUN_TIMES: Final = """
SELECT pool, lane, count(*) AS jobs, sum(finished_at - started_at) AS total, now() AS now FROM finished_jobs
WHERE finished_at > coalesce($1::timestamptz, now() - interval '5 minutes') AND finished_at <= now()
    AND started_at IS NOT NULL AND state = 'succeeded'
GROUP BY pool, lane
"""
LIST_PAUSES: Final = "SELECT tenant_id, pool, model FROM queue_pauses ORDER BY paused_at, tenant_id, pool, model"
PAUSE: Final = """
INSERT INTO queue_pauses (tenant_id, pool, model) VALUES ($1, $2, $3) ON CONFLICT (tenant_id, pool, model) DO NOTHING
"""
RESUME: Final = "DELETE FROM queue_pauses WHERE tenant_id = $1 AND pool = $2 AND model = $3"
ALL_TENANTS: Final = "*"


class PostgresQueueStore:
    """Implements `QueueStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._run_times = RunTimes()
        self._timed_until: datetime | None = None

    async def read_figures(self) -> Sequence[QueueFigures]:
        await self._read_run_times()
        rows = await self._database.system().fetch(FIGURES)
        return [row_to_figures(row, self._run_times.mean(row["pool"], row["lane"])) for row in rows]

    async def _read_run_times(self) -> None:
        since = self._timed_until
        rows = await self._database.system().fetch(RUN_TIMES, since)
        if self._timed_until != since:
            return  # another call has added them
        for row in rows:
            self._run_times.add(row["pool"], row["lane"], row["jobs"], row["total"], row["now"])
            self._timed_until = row["now"]

    async def list_pauses(self) -> Sequence[PauseSelector]:
        rows = await self._database.system().fetch(LIST_PAUSES)
        return [
            PauseSelector("" if row["tenant_id"] == ALL_TENANTS else row["tenant_id"], row["pool"], row["model"])
            for row in rows
        ]

    async def pause(self, selector: PauseSelector) -> None:
        await self._database.system().fetch(PAUSE, *_key(selector))

    async def resume(self, selector: PauseSelector) -> None:
        await self._database.system().fetch(RESUME, *_key(selector))


def _key(selector: PauseSelector) -> tuple[str, str, str]:
    return selector.tenant_id or ALL_TENANTS, selector.pool, selector.model


def row_to_figures(row: Any, mean_run: timedelta | None) -> QueueFigures:
    return QueueFigures(
        pool=row["pool"],
        lane=Lane(row["lane"]),
        queued=row["queued"],
        paused=row["paused"],
        queued_tokens=row["queued_tokens"],
        dispatched=row["dispatched"],
        running=row["running"],
        oldest_wait=row["oldest_wait"],
        mean_run=mean_run,
        slots=row["slots"],
        tenants=row["tenants"],
    )
