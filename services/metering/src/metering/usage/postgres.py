"""Usage sums in Postgres: whole days from the daily roll-up, the rest of the interval from settlements."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import orjson
from chassis.postgres import Database

from metering.usage.classes import all_classes
from metering.usage.model import CacheSum, RightSizingSum, UsageSum, split_at_midnights

SUMS = """
WITH settled AS (
    SELECT (settled_at AT TIME ZONE 'UTC')::date AS day, price_key, cache = '' AS is_call,
           coalesce(input_tokens, 0) AS input_tokens, coalesce(output_tokens, 0) AS output_tokens, cost, saved,
           input_cost, classes, coalesce(right_sizing_saved, 0) AS right_sizing_saved
    FROM metering.settlements
    WHERE tenant_id = $1 AND attempt > 0 AND event_id <> ''
      AND (settled_at >= $4 AND settled_at < $5 OR settled_at >= $6 AND settled_at < $7)
), parts AS (
    SELECT day, price_key, calls, input_tokens, output_tokens, cost, cache_hits, saved, classed_input_tokens,
           classed_output_tokens, input_cost, output_cost, right_sizing_saved
    FROM metering.usage_daily
    WHERE tenant_id = $1 AND day >= $2 AND day < $3
    UNION ALL
    SELECT day, price_key, is_call::integer, CASE WHEN is_call THEN input_tokens ELSE 0 END,
           CASE WHEN is_call THEN output_tokens ELSE 0 END, cost, (NOT is_call)::integer, saved,
           CASE WHEN is_call AND input_cost IS NOT NULL THEN input_tokens ELSE 0 END,
           CASE WHEN is_call AND input_cost IS NOT NULL THEN output_tokens ELSE 0 END,
           coalesce(input_cost, 0), coalesce(cost - input_cost, 0), right_sizing_saved
    FROM settled
), class_parts AS (
    SELECT day, price_key, class, tokens, cost FROM metering.usage_classes_daily
    WHERE tenant_id = $1 AND day >= $2 AND day < $3
    UNION ALL
    SELECT day, price_key, c.key, CASE WHEN is_call THEN (c.value ->> 0)::bigint ELSE 0 END, (c.value ->> 1)::bigint
    FROM settled CROSS JOIN LATERAL jsonb_each(classes) AS c
), class_sums AS (
    SELECT CASE WHEN $8 THEN day END AS day, price_key, class, sum(tokens)::bigint AS tokens, sum(cost)::bigint AS cost
    FROM class_parts GROUP BY 1, 2, 3
), sums AS (
    SELECT CASE WHEN $8 THEN day END AS day, price_key, sum(calls)::bigint AS calls,
           sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
           sum(cost)::bigint AS cost, sum(cache_hits)::bigint AS cache_hits, sum(saved)::bigint AS saved,
           sum(classed_input_tokens)::bigint AS classed_input_tokens, sum(input_cost)::bigint AS input_cost,
           sum(classed_output_tokens)::bigint AS classed_output_tokens, sum(output_cost)::bigint AS output_cost,
           sum(right_sizing_saved)::bigint AS right_sizing_saved
    FROM parts GROUP BY 1, 2
)
SELECT s.*, (
    SELECT jsonb_object_agg(c.class, jsonb_build_array(c.tokens, c.cost)) FROM class_sums AS c
    WHERE c.price_key = s.price_key AND c.day IS NOT DISTINCT FROM s.day
) AS classes
FROM sums AS s ORDER BY s.day, s.price_key
"""

CACHE_SUMS = """
SELECT CASE WHEN $4 THEN day END AS day, model, sum(lookups)::bigint AS lookups, sum(hits)::bigint AS hits,
       sum(semantic_hits)::bigint AS semantic_hits, sum(stale_hits)::bigint AS stale_hits, sum(cost)::bigint AS cost,
       sum(saved)::bigint AS saved
FROM metering.cache_daily WHERE tenant_id = $1 AND day >= $2 AND day <= $3 GROUP BY 1, 2 ORDER BY 1, 2
"""

RIGHT_SIZING_SUMS = """
SELECT CASE WHEN $4 THEN day END AS day, model, sum(requests)::bigint AS requests, sum(answered)::bigint AS answered,
       sum(cost)::bigint AS cost, sum(saved)::bigint AS saved
FROM metering.right_sizing_daily WHERE tenant_id = $1 AND day >= $2 AND day <= $3 GROUP BY 1, 2 ORDER BY 1, 2
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
        return [_row_to_sum(row) for row in rows]

    async def cache_sums(self, tenant_id: str, first: date, last: date, *, by_day: bool) -> Sequence[CacheSum]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(CACHE_SUMS, tenant_id, first, last, by_day)
        return [CacheSum(**row) for row in rows]

    async def right_sizing_sums(
        self, tenant_id: str, first: date, last: date, *, by_day: bool
    ) -> Sequence[RightSizingSum]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(RIGHT_SIZING_SUMS, tenant_id, first, last, by_day)
        return [RightSizingSum(**row) for row in rows]


def _row_to_sum(row: Mapping[str, Any]) -> UsageSum:
    kept = {} if row["classes"] is None else orjson.loads(row["classes"])
    return UsageSum(
        row["day"],
        row["price_key"],
        row["calls"],
        row["input_tokens"],
        row["output_tokens"],
        row["cost"],
        row["cache_hits"],
        row["saved"],
        all_classes(
            (row["classed_input_tokens"], row["input_cost"]), (row["classed_output_tokens"], row["output_cost"]), kept
        ),
        row["right_sizing_saved"],
    )
