"""What must hold in the books when nothing is in flight."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.chaos.load import Load
from tests.fleet import Fleet

# Each query counts what breaks the rule.
BROKEN = {
    "a reservation is held though nothing runs": "SELECT count(*) FROM metering.reservations WHERE state = 'held'",
    "a budget holds money though nothing runs": "SELECT count(*) FROM metering.budgets WHERE held <> 0",
    "spent and held exceed a cap": "SELECT count(*) FROM metering.budgets WHERE spent + held > cap",
    "a ledger transaction does not sum to zero": """
        SELECT count(*) FROM (
          SELECT FROM metering.ledger_entries GROUP BY tenant_id, transaction_id HAVING sum(amount) <> 0) t""",
    "a budget's spending is not what its settlements cost": """
        SELECT count(*) FROM metering.budgets b WHERE scope = 'tenant' AND spent <> (
          SELECT coalesce(sum(cost), 0) FROM metering.settlements s WHERE s.tenant_id = b.tenant_id)""",
    "the receivable is not what was settled": """
        SELECT count(*) FROM (
          SELECT (SELECT coalesce(sum(amount), 0) FROM metering.ledger_entries WHERE account = 'receivable')
               - (SELECT coalesce(sum(cost), 0) FROM metering.settlements) AS gap) t WHERE gap <> 0""",
    "a reservation has no settlement": """
        SELECT count(*) FROM metering.reservations r WHERE NOT EXISTS (
          SELECT FROM metering.settlements s WHERE s.tenant_id = r.tenant_id AND s.request_id = r.request_id)""",
    "an event waits in an outbox": "SELECT count(*) FROM orchestration.outbox",
}


async def until(what: str, seconds: float, true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a state, or fail with its name."""
    try:
        async with asyncio.timeout(seconds):
            while not await true():
                await asyncio.sleep(0.25)
    except TimeoutError:
        pytest.fail(f"not after {seconds} s: {what}")


async def broken(fleet: Fleet) -> dict[str, int]:
    """Which invariants do not hold, and how often."""
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        counts = {name: await connection.fetchval(query) for name, query in BROKEN.items()}
    finally:
        await connection.close()
    return {name: count for name, count in counts.items() if count}


async def told_and_billed(fleet: Fleet, load: Load) -> dict[str, tuple[int, int | None]]:
    """Requests whose client was told another cost than the books have."""
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        rows = await connection.fetch(
            "SELECT request_id, sum(cost)::bigint AS cost FROM metering.settlements "
            "WHERE request_id = ANY($1) GROUP BY 1",
            list(load.answered),
        )
    finally:
        await connection.close()
    billed = {row["request_id"]: row["cost"] for row in rows}
    return {r: (told, billed.get(r)) for r, told in load.answered.items() if billed.get(r) != told}


async def are_exact(fleet: Fleet, load: Load, seconds: float = 120) -> None:
    """Wait until every rule holds, and every client was told what the books have."""

    async def exact() -> bool:
        return not await broken(fleet)

    try:
        await until("the books are exact", seconds, exact)
    except BaseException:
        print(await broken(fleet))
        raise
    assert await told_and_billed(fleet, load) == {}
