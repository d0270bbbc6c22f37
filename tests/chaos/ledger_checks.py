"""Invariants of metering's tables when no request is in flight."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.chaos.load import Load
from tests.fleet.client import Fleet

# Each query counts the rows that violate the invariant.
INVARIANTS = {
    "a reservation is held": "SELECT count(*) FROM metering.reservations WHERE state = 'held'",
    "a budget has a held amount": "SELECT count(*) FROM metering.budgets WHERE held <> 0",
    "spent, held and exposed exceed a cap": "SELECT count(*) FROM metering.budgets WHERE spent + held + exposed > cap",
    "a ledger transaction does not sum to zero": """
        SELECT count(*) FROM (
          SELECT FROM metering.ledger_entries GROUP BY tenant_id, transaction_id HAVING sum(amount) <> 0) t""",
    "a budget's spending is not what its settlements cost": """
        SELECT count(*) FROM metering.budgets b WHERE scope = 'tenant' AND spent <> (
          SELECT coalesce(sum(cost + reconciled_cost), 0) FROM metering.settlements s
          WHERE s.tenant_id = b.tenant_id)""",
    "the receivable is not what was settled": """
        SELECT count(*) FROM (
          SELECT (SELECT coalesce(sum(amount), 0) FROM metering.ledger_entries WHERE account = 'receivable')
               - (SELECT coalesce(sum(cost + reconciled_cost), 0) FROM metering.settlements) AS gap) t
        WHERE gap <> 0""",
    "the costs by class in the roll-up are not what was settled": """
        SELECT count(*) FROM (
          SELECT (SELECT coalesce(sum(input_cost + output_cost), 0) FROM metering.usage_daily)
               - (SELECT coalesce(sum(cost), 0) FROM metering.settlements WHERE attempt > 0 AND event_id <> '') AS gap,
                 (SELECT coalesce(sum(cost), 0) FROM metering.usage_classes_daily)
               - (SELECT coalesce(sum((c.value ->> 1)::bigint), 0) FROM metering.settlements AS s
                  CROSS JOIN LATERAL jsonb_each(s.classes) AS c
                  WHERE s.attempt > 0 AND s.event_id <> '') AS class_gap) t
        WHERE gap <> 0 OR class_gap <> 0""",
    "a reservation has no settlement": """
        SELECT count(*) FROM metering.reservations r WHERE NOT EXISTS (
          SELECT FROM metering.settlements s WHERE s.tenant_id = r.tenant_id AND s.request_id = r.request_id)""",
    "an event waits in an outbox": "SELECT count(*) FROM orchestration.outbox",
}


async def wait_for(what: str, seconds: float, true: Callable[[], Awaitable[bool]], *, interval: float = 0.25) -> None:
    """Wait for a condition, checked at an interval in seconds, or fail with its description."""
    try:
        async with asyncio.timeout(seconds):
            while not await true():
                await asyncio.sleep(interval)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")


async def violations(fleet: Fleet) -> dict[str, int]:
    """The violated invariants, with their counts."""
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        counts = {name: await connection.fetchval(query) for name, query in INVARIANTS.items()}
    finally:
        await connection.close()
    return {name: count for name, count in counts.items() if count}


async def wrongly_charged(fleet: Fleet, load: Load) -> dict[str, tuple[int, int | None]]:
    """Requests whose response had another cost than metering's settlements."""
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        rows = await connection.fetch(
            "SELECT request_id, sum(cost)::bigint AS cost FROM metering.settlements "
            "WHERE request_id = ANY($1) GROUP BY 1",
            list(load.completed),
        )
    finally:
        await connection.close()
    billed = {row["request_id"]: row["cost"] for row in rows}
    return {r: (charged, billed.get(r)) for r, charged in load.completed.items() if billed.get(r) != charged}


async def wait_until_exact(fleet: Fleet, load: Load, seconds: float = 120) -> None:
    """Wait until all invariants hold, and compare the costs in responses with metering's settlements."""

    async def exact() -> bool:
        return not await violations(fleet)

    try:
        await wait_for("all invariants hold", seconds, exact)
    except BaseException:
        print(await violations(fleet))
        raise
    assert await wrongly_charged(fleet, load) == {}
