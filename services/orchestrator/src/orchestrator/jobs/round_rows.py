"""Rounds of dispatches as rows."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from orchestrator.jobs.fair_share import LaneQueues, TenantQueue
from orchestrator.jobs.model import Lane, RunRef
from orchestrator.jobs.rounds import PoolQueues

Row = Mapping[str, Any]


def rows_to_pools(rows: Iterable[Row]) -> list[PoolQueues]:
    """Read the queues of all pools, one row per tenant and lane."""
    ordered = sorted(rows, key=itemgetter("pool", "lane", "tenant_id"))
    return [_pool(pool, list(of_pool)) for pool, of_pool in groupby(ordered, key=itemgetter("pool"))]


def _pool(pool: str, rows: list[Row]) -> PoolQueues:
    first = rows[0]
    lanes = [_lane(lane.value, first, [row for row in rows if row["lane"] == lane]) for lane in Lane]
    heads = {
        (row["lane"], row["tenant_id"]): tuple(
            RunRef(row["tenant_id"], job_id, epoch)
            for job_id, epoch in zip(row["job_ids"][: row["wanted"]], row["epochs"], strict=False)
        )
        for row in rows
    }
    return PoolQueues(pool, first["round"], first["slots"], tuple(lanes), heads, first["now"])


def _lane(lane: str, pool: Row, rows: list[Row]) -> LaneQueues:
    now, last = pool["now"], pool[f"{lane}_at"]
    waited = max((now - row["due_at"] for row in rows), default=timedelta(0))
    unserved = waited if last is None else min(waited, now - last)
    tenants = [
        TenantQueue(
            row["tenant_id"],
            row["costs"][: row["wanted"]],
            more=len(row["job_ids"]) > row["wanted"],
            queued=row["queued"],
            deficit=row["deficit"],
        )
        for row in rows
    ]
    return LaneQueues(lane, tenants, in_flight=pool[lane], unserved=max(timedelta(0), unserved))
