"""Jobs keep their promises in simulations that kill, freeze, delay, repeat and lose whatever can be.

A failure names its seed: `python -m services.orchestrator.tests.simulation --seed N` shows that history again.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.orchestrator.tests.simulation.mutants import MUTANTS, mutated
from services.orchestrator.tests.simulation.simulate import simulate

SEEDS = 200
BLOCK = 25
MAX_SEEDS = 500
"""Within so many a mistake has to be found."""
KILLED_BY = {
    "drop_the_fencing": 4,
    "commit_before_the_claim": 0,
    "settle_returned_runs_twice": 33,
    "settle_at_release_and_at_reap": 33,
    "forget_the_counter": 0,
    "redeliver_without_a_new_epoch": 0,
    "dispatch_without_a_new_epoch": 0,
    "count_a_returned_run_as_a_crash": 33,
    "skip_quarantine": 0,
    "finish_twice": 0,
    "dispatch_paused_tenants": 2,
    "finish_a_cancelled_job_with_its_answer": 4,
    "reap_living_runs": 5,
    "forget_lost_dispatches": 20,
    "hand_plans_out_unsaved": 0,
    "start_attempts_of_lost_runs": 12,
    "hand_back_what_may_not_be_claimed": 3,
    "hand_back_the_runs_of_others": 13,
    "release_without_a_word": 0,
}
"""Seeds that find each mistake; when the engine or the simulation changes, others may."""


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_jobs_keep_their_promises(first: int) -> None:
    broken = {}
    for seed in range(first, first + BLOCK):
        outcome = simulate(seed)
        if outcome.breaches:
            broken[seed] = outcome.breaches

    assert broken == {}


def test_a_seed_replays_exactly_also_in_another_process() -> None:
    first, again = simulate(7), simulate(7)

    replay = subprocess.run(
        [sys.executable, "-m", "services.orchestrator.tests.simulation", "--seed", "7"],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert first.trace == again.trace
    assert len(first.trace) > 10
    assert f"history {first.fingerprint:08x}" in replay.stdout


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_in_the_engine_is_found(name: str) -> None:
    with mutated(name):
        seeds = [KILLED_BY[name], *range(MAX_SEEDS)]
        found = next((outcome for outcome in map(simulate, seeds) if outcome.breaches), None)

    assert found is not None
    print(f"{name}: seed {found.seed}: {found.breaches[0]}")


def test_the_list_of_mistakes_is_complete() -> None:
    assert KILLED_BY.keys() == MUTANTS.keys()
    assert len(MUTANTS) >= 10
