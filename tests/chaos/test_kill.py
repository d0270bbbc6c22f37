"""Kill every part in turn under a steady load: the fleet heals by itself, and the books stay exact."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.chaos.load import Load, steady_load
from tests.fleet import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]

SERVICES = ("gateway", "orchestrator", "inference-worker", "metering", "retrieval")
STORES = ("redis", "kafka", "postgres")
HEALED_AFTER = 20
"""This many answers in a row after a kill say that the fleet has healed."""

# What must hold when nothing is in flight. Each query counts what breaks it.
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


async def kill_and_heal(fleet: Fleet, victim: str, load: Load) -> None:
    """End a part with SIGKILL and wait until clients are answered again."""
    pid, cut = fleet.pid_of(victim), load.cut
    os.kill(pid, signal.SIGKILL)

    async def restarted() -> bool:
        return fleet.pid_of(victim) not in {0, pid}

    await until(f"{victim} runs again", 60, restarted)
    good = len(load.answered)

    async def healed() -> bool:
        return len(load.answered) >= good + HEALED_AFTER

    await until(f"clients are answered after {victim} died", 90, healed)
    if victim != "gateway":
        assert load.cut == cut, f"connections broke when {victim} died"


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


async def test_the_fleet_heals_from_the_death_of_any_part_and_the_books_stay_exact(fleet: Fleet, rounds: int) -> None:
    await fleet.offer("sim-chaos", model="instant")
    async with steady_load(fleet) as load:
        for _ in range(rounds):
            for victim in (*SERVICES, *STORES):
                await kill_and_heal(fleet, victim, load)
    print(f"{len(load.answered)} answered, {load.cut} cut, {dict(load.typed)}")

    assert load.untyped == []

    async def exact() -> bool:
        return not await broken(fleet)

    try:
        await until("the books are exact", 120, exact)
    except BaseException:
        print(await broken(fleet))
        raise
    assert await told_and_billed(fleet, load) == {}
