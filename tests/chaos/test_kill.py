"""Kill every part in turn under a steady load: the fleet heals by itself, and the books stay exact."""

import os
import signal

import pytest

from tests.chaos import books
from tests.chaos.books import until
from tests.chaos.load import Load, steady_load
from tests.fleet import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]

SERVICES = ("gateway", "orchestrator", "inference-worker", "metering", "retrieval")
STORES = ("redis", "kafka", "postgres")
HEALED_AFTER = 20
"""This many answers in a row after a kill say that the fleet has healed."""


async def kill_and_heal(fleet: Fleet, victim: str, load: Load) -> None:
    """End a part with SIGKILL, with all its replicas, and wait until clients are answered again."""
    pids, cut = {part: fleet.pid_of(part) for part in fleet.replicas_of(victim)}, load.cut
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)

    async def restarted() -> bool:
        return all(fleet.pid_of(part) not in {0, pid} for part, pid in pids.items())

    await until(f"{victim} runs again", 60, restarted)
    good = len(load.answered)

    async def healed() -> bool:
        return len(load.answered) >= good + HEALED_AFTER

    await until(f"clients are answered after {victim} died", 90, healed)
    if victim != "gateway":
        assert load.cut == cut, f"connections broke when {victim} died"


async def test_the_fleet_heals_from_the_death_of_any_part_and_the_books_stay_exact(fleet: Fleet, rounds: int) -> None:
    await fleet.offer("sim-chaos", model="instant")
    async with steady_load(fleet) as load:
        for _ in range(rounds):
            for victim in (*SERVICES, *STORES):
                await kill_and_heal(fleet, victim, load)
    print(f"{len(load.answered)} answered, {load.cut} cut, {dict(load.typed)}")

    assert load.untyped == []

    await books.are_exact(fleet, load)
