"""Queues in Postgres. Depths are counters that the transactions of jobs keep; no job is read to count it."""

from collections.abc import Sequence
from typing import Any, Final

from chassis.postgres import Database

from orchestrator.jobs.model import Lane
from orchestrator.queues.model import PauseSelector, QueueFigures

# The oldest due job of a lane is one entry of an index. The mean is of the last jobs of the last minutes: a block range
# index finds them, because rows are added in the order of their time.
FIGURES: Final = """
WITH counted AS (
    SELECT pool, lane, sum(queued)::bigint AS queued, sum(queued_tokens)::bigint AS queued_tokens,
        sum(dispatched)::bigint AS dispatched, sum(running)::bigint AS running,
        count(*) FILTER (WHERE queued > 0) AS tenants
    FROM tenant_queues GROUP BY pool, lane
), workers AS (
    SELECT pool, sum(slots)::bigint AS slots FROM job_workers
    WHERE tenant_id = '*' AND seen_at > now() - interval '15 seconds' GROUP BY pool
), recent AS (
    SELECT pool, lane, avg(finished_at - started_at) AS mean_run FROM finished_jobs
    WHERE finished_at > now() - interval '5 minutes' AND started_at IS NOT NULL AND state = 'succeeded'
    GROUP BY pool, lane
), queues AS (
    SELECT pool, lane FROM counted WHERE queued + dispatched + running > 0
    UNION SELECT pool, lane FROM workers CROSS JOIN unnest(ARRAY['interactive', 'standard', 'batch']) AS lane
)
SELECT pool, lane, coalesce(c.queued, 0) AS queued, coalesce(c.queued_tokens, 0) AS queued_tokens,
    coalesce(c.dispatched, 0) AS dispatched, coalesce(c.running, 0) AS running, coalesce(c.tenants, 0) AS tenants,
    coalesce(w.slots, 0) AS slots, r.mean_run, now() - oldest.due_at AS oldest_wait
FROM queues LEFT JOIN counted AS c USING (pool, lane) LEFT JOIN workers AS w USING (pool)
LEFT JOIN recent AS r USING (pool, lane)
LEFT JOIN LATERAL (
    SELECT due_at FROM jobs AS j
    WHERE j.pool = queues.pool AND j.lane = queues.lane AND j.state = 'queued' AND j.due_at <= now()
    ORDER BY due_at LIMIT 1
) AS oldest ON c.queued > 0
ORDER BY pool, array_position(ARRAY['interactive', 'standard', 'batch'], lane)
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

    async def read_figures(self) -> Sequence[QueueFigures]:
        return [row_to_figures(row) for row in await self._database.system().fetch(FIGURES)]

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


def row_to_figures(row: Any) -> QueueFigures:
    return QueueFigures(
        pool=row["pool"],
        lane=Lane(row["lane"]),
        queued=row["queued"],
        queued_tokens=row["queued_tokens"],
        dispatched=row["dispatched"],
        running=row["running"],
        oldest_wait=row["oldest_wait"],
        mean_run=row["mean_run"],
        slots=row["slots"],
        tenants=row["tenants"],
    )
