"""Usage sums in Postgres: whole days from the daily roll-up, the rest of the interval from settlements."""

from collections.abc import Sequence
from datetime import date, datetime

from chassis.postgres import Database

from metering.usage.model import CacheSum, UsageSum, split_at_midnights

SUMS = """
WITH parts AS (
    SELECT day, price_key, calls, input_tokens, output_tokens, cost, cache_hits, saved FROM metering.usage_daily
    WHERE tenant_id = $1 AND day >= $2 AND day < $3
    UNION ALL
    SELECT (settled_at AT TIME ZONE 'UTC')::date, price_key, (cache = '')::integer,
           CASE cache WHEN '' THEN coalesce(input_tokens, 0) ELSE 0 END,
           CASE cache WHEN '' THEN coalesce(output_tokens, 0) ELSE 0 END,
           cost, (cache <> '')::integer, saved
    FROM metering.settlements
    WHERE tenant_id = $1 AND attempt > 0 AND event_id <> ''
      AND (settled_at >= $4 AND settled_at < $5 OR settled_at >= $6 AND settled_at < $7)
)
SELECT CASE WHEN $8 THEN day END AS day, price_key, sum(calls)::bigint AS calls,
       sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
       sum(cost)::bigint AS cost, sum(cache_hits)::bigint AS cache_hits, sum(saved)::bigint AS saved
FROM parts GROUP BY 1, 2 ORDER BY 1, 2
"""

CACHE_SUMS = """
SELECT CASE WHEN $4 THEN day END AS day, model, sum(lookups)::bigint AS lookups, sum(hits)::bigint AS hits,
       sum(semantic_hits)::bigint AS semantic_hits, sum(stale_hits)::bigint AS stale_hits, sum(cost)::bigint AS cost,
       sum(saved)::bigint AS saved
FROM metering.cache_daily WHERE tenant_id = $1 AND day >= $2 AND day <= $3 GROUP BY 1, 2 ORDER BY 1, 2
"""


class PostgresUsageStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, tenant_id: str, start: datetime, end: datetime, *, by_day: bool) -> Sequence[UsageSum]:
        split = split_at_midnights(start, end)
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                SUMS, tenant_id, split.first_day, split.end_day, *split.head, *split.tail, by_day
            )
        return [UsageSum(**row) for row in rows]

    async def cache_sums(self, tenant_id: str, first: date, last: date, *, by_day: bool) -> Sequence[CacheSum]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(CACHE_SUMS, tenant_id, first, last, by_day)
        return [CacheSum(**row) for row in rows]
