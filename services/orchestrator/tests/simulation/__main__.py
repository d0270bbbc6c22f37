"""Runs simulations: `python -m services.orchestrator.tests.simulation --seeds 2000`, or one with `--seed N`."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from time import perf_counter

from services.orchestrator.tests.simulation.mutants import MUTANTS, mutated
from services.orchestrator.tests.simulation.simulate import Outcome, simulate

COMMAND = "python -m services.orchestrator.tests.simulation"
BLOCK = 20


def main() -> int:
    arguments = _parse()
    if arguments.mutants:
        return _show_mutants(arguments.start, arguments.seeds)
    with mutated(arguments.mutant) if arguments.mutant else nullcontext():
        if arguments.seed is not None:
            return _replay(arguments.seed)
        return _run_many(arguments.start, arguments.seeds)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Simulate jobs in virtual time.")
    parser.add_argument("--seed", type=int, help="run this one, and print what happens")
    parser.add_argument("--seeds", type=int, default=2_000, help="how many to run")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="run with a mistake in the engine")
    parser.add_argument("--mutants", action="store_true", help="find a seed for each of the mistakes")
    return parser.parse_args()


def _replay(seed: int) -> int:
    outcome = simulate(seed)
    for at, text in outcome.trace:
        print(f"{at:10.3f} s  {text}")
    print(
        f"seed {seed}: {outcome.jobs} jobs, {outcome.claims} runs, {outcome.provider_calls} provider calls, "
        f"{outcome.seconds:.0f} s of virtual time; history {outcome.fingerprint:08x}"
    )
    for breach in outcome.breaches:
        print(f"BROKEN at {breach}")
    return 1 if outcome.breaches else 0


def _run_many(start: int, count: int) -> int:
    began = perf_counter()
    totals: Counter[str] = Counter()
    broken = []
    for outcome in _outcomes(start, count):
        totals.update(
            jobs=outcome.jobs, runs=outcome.claims, calls=outcome.provider_calls, seconds=round(outcome.seconds)
        )
        if outcome.breaches:
            broken.append(outcome)
            print(f"seed {outcome.seed} broke: {outcome.breaches[0]}\n  replay: {COMMAND} --seed {outcome.seed}")
    print(
        f"{count} seeds from {start} in {perf_counter() - began:.0f} s: {len(broken)} broken; {totals['jobs']} jobs, "
        f"{totals['runs']} runs, {totals['calls']} provider calls, {totals['seconds'] / 3600:.0f} h of virtual time"
    )
    return 1 if broken else 0


def _outcomes(start: int, count: int) -> Iterator[Outcome]:
    blocks = [range(first, min(first + BLOCK, start + count)) for first in range(start, start + count, BLOCK)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for outcomes in pool.map(_run_block, blocks):
            yield from outcomes


def _run_block(seeds: range) -> list[Outcome]:
    return [simulate(seed) for seed in seeds]


def _show_mutants(start: int, count: int) -> int:
    survivors = 0
    for name in MUTANTS:
        with mutated(name):
            found = next((one for one in map(simulate, range(start, start + count)) if one.breaches), None)
        survivors += found is None
        result = "SURVIVES" if found is None else f"seed {found.seed:4}  {found.breaches[0]}"
        print(f"{name:40} {result}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
