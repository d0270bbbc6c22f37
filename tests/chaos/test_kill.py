"""Kill every part in turn under a steady load: the fleet recovers by itself, and the ledger stays exact."""

import os
import signal

import pytest

from tests.chaos import ledger_checks
from tests.chaos.ledger_checks import wait_for
from tests.chaos.load import Load, steady_load
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]

SERVICES = ("gateway", "orchestrator", "inference-worker", "metering", "retrieval")
STORES = ("redis", "kafka", "postgres")
RECOVERED_AFTER = 20
"""The fleet has recovered after this many responses in a row."""


async def kill_and_recover(fleet: Fleet, victim: str, load: Load) -> None:
    """Kill all replicas of a part with SIGKILL, and wait until clients get responses again."""
    pids, disconnected = {part: fleet.pid_of(part) for part in fleet.replicas_of(victim)}, load.disconnected
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)

    async def restarted() -> bool:
        return all(fleet.pid_of(part) not in {0, pid} for part, pid in pids.items())

    await wait_for(f"{victim} runs again", 60, restarted)
    succeeded = len(load.completed)

    async def recovered() -> bool:
        return len(load.completed) >= succeeded + RECOVERED_AFTER

    await wait_for(f"clients get responses after the kill of {victim}", 90, recovered)
    if victim != "gateway":
        assert load.disconnected == disconnected, f"connections were lost at the kill of {victim}"


async def test_the_fleet_recovers_from_the_kill_of_any_part_and_the_ledger_stays_exact(
    fleet: Fleet, rounds: int
) -> None:
    await fleet.add_model("sim-chaos", upstream_model="instant")
    async with steady_load(fleet) as load:
        for _ in range(rounds):
            for victim in (*SERVICES, *STORES):
                await kill_and_recover(fleet, victim, load)
    print(f"{len(load.completed)} completed, {load.disconnected} disconnected, {dict(load.typed)}")

    assert load.untyped == []

    await ledger_checks.wait_until_exact(fleet, load)
