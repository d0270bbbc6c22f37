"""Measure the fleet beside its upstream: `make bench`, or python -m tests.load.bench --help.

Starts a fleet of its own with a fast upstream, pins the five services to core 0 and everything else to core 1, and
runs each load on both ways: straight to the upstream, and through the fleet. Prints medians; --out keeps every run.
"""

import argparse
import datetime as dt
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.load import goals, machine, scenarios, show, ways
from tests.load.figures import added, median
from tests.load.scenarios import SCENARIOS, SOAK, Scenario
from tests.load.ways import Way
from tests.load.world import World, world

IDLE = "idle"
NAMES = (IDLE, *(scenario.name for scenario in SCENARIOS))
_REST_SECONDS = 3


def arguments(description: str | None, names: Sequence[str] = NAMES) -> argparse.ArgumentParser:
    """The flags that every bench has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(names), metavar="A,B", help=f"of {', '.join(names)}; and soak")
    parser.add_argument("--runs", type=int, default=3, help="how often each load runs; medians are shown (3)")
    parser.add_argument("--seconds", type=float, help="how long each load lasts, in place of its own time")
    parser.add_argument("--quick", action="store_true", help="two seconds each, once: to see that it works")
    parser.add_argument("--replicas", default="", metavar="S=N,…", help="more processes of services: orchestrator=2")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every run and the medians there, as JSON")
    return parser


def chosen(words: argparse.Namespace, among: Sequence[Scenario] = (*SCENARIOS, SOAK)) -> list[Scenario]:
    """The loads that were asked for, as long as was asked for."""
    wanted = words.only.split(",")
    if unknown := set(wanted) - {IDLE, *(scenario.name for scenario in among)}:
        raise SystemExit(f"bench: there is no load named {', '.join(sorted(unknown))}; see --help")
    found = [scenario for scenario in among if scenario.name in wanted]
    if words.quick:
        words.runs = 1
        found = [scenario.quick for scenario in found]
    if words.seconds:
        found = [replace(scenario, seconds=words.seconds) for scenario in found]
    return found


def about() -> dict[str, Any]:
    """What a figure is worth nothing without."""
    return {
        "command": " ".join(["python -m", _module(), *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.describe(),
    }


def _module() -> str:
    return f"tests.load.{Path(sys.argv[0]).stem}"


def say(text: str) -> None:
    """Tell on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


def measure(loads: Sequence[Scenario], over: Sequence[Way], bench: World, runs: int) -> dict[str, Any]:
    """Run each load `runs` times on each way, in turns, and take medians."""
    results: dict[str, Any] = {}
    for load in loads:
        taken: dict[str, list[dict[str, Any]]] = {way.name: [] for way in over}
        for number in range(runs):
            for way in over:
                say(f"{load.name}: {way.name}, run {number + 1} of {runs}, {load.seconds:.0f} s")
                bench.pin()  # what was restarted, and processes that are new
                taken[way.name].append(scenarios.run(load, way, bench))
        medians = {name: median(figures) for name, figures in taken.items()}
        results[load.name] = {
            "title": load.title,
            "median": medians,
            "added": {name: added(medians[name], medians["direct"]) for name in medians if name != "direct"},
            "runs": taken,
        }
    return results


def warm(over: Sequence[Way], bench: World, seconds: float = 3.0) -> None:
    """Let every way do some work of each kind, so that the first run is like the others."""
    for streamed in (False, True):
        for way in over:
            scenarios.run(Scenario("warm", "", streamed=streamed, connections=16, seconds=seconds / 2), way, bench)


def keep(results: dict[str, Any], out: Path | None) -> None:
    """Write the results down, if somebody wants them."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        say(f"written to {out}")


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    words = parser.parse_args()
    loads = chosen(words)
    say("starting a fleet for the bench in .argosy/bench")
    with world(words.replicas) as bench:
        through = ways.fleet(bench)
        over = [ways.direct(bench), through]
        warm(over, bench, 1.0 if words.quick else 3.0)
        time.sleep(_REST_SECONDS)
        results = about() | {"rest": scenarios.rest(through)}
        if IDLE in words.only.split(","):
            # First and once: later, memory that other loads have left free would hide what streams take.
            say(f"idle: {scenarios.IDLE_STREAMS} streams")
            results["idle"] = scenarios.idle(through, bench, 50 if words.quick else scenarios.IDLE_STREAMS)
        results["loads"] = measure(loads, over, bench, words.runs)
    print(show.text(results))
    print("\n".join(["", *show.aligned(goals.rows(results))]))
    keep(results, words.out)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
