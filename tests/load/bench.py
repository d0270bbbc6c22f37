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

from tests.load import goals, machine, scenarios, show, targets
from tests.load.bench_fleet import BenchFleet, bench_fleet
from tests.load.figures import added, median
from tests.load.scenarios import SCENARIOS, SOAK, Scenario
from tests.load.targets import Target

IDLE = "idle"
NAMES = (IDLE, *(scenario.name for scenario in SCENARIOS))
_REST_SECONDS = 3


def arguments(description: str | None, names: Sequence[str] = NAMES) -> argparse.ArgumentParser:
    """The options of every bench."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(names), metavar="A,B", help=f"of {', '.join(names)}; and soak")
    parser.add_argument("--runs", type=int, default=3, help="how often each load runs; medians are shown (3)")
    parser.add_argument("--seconds", type=float, help="how long each load lasts, in place of its own time")
    parser.add_argument("--quick", action="store_true", help="two seconds each, once: to see that it works")
    parser.add_argument("--replicas", default="", metavar="S=N,…", help="more processes of services: orchestrator=2")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every run and the medians there, as JSON")
    return parser


def chosen(options: argparse.Namespace, among: Sequence[Scenario] = (*SCENARIOS, SOAK)) -> list[Scenario]:
    """The selected loads, with the selected duration."""
    wanted = options.only.split(",")
    if unknown := set(wanted) - {IDLE, *(scenario.name for scenario in among)}:
        raise SystemExit(f"bench: there is no load named {', '.join(sorted(unknown))}; see --help")
    found = [scenario for scenario in among if scenario.name in wanted]
    if options.quick:
        options.runs = 1
        found = [scenario.quick for scenario in found]
    if options.seconds:
        found = [replace(scenario, seconds=options.seconds) for scenario in found]
    return found


def about() -> dict[str, Any]:
    """The circumstances of a measurement."""
    return {
        "command": " ".join(["python -m", _module(), *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.describe(),
    }


def _module() -> str:
    return f"tests.load.{Path(sys.argv[0]).stem}"


def log(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)


def measure(loads: Sequence[Scenario], over: Sequence[Target], bench: BenchFleet, runs: int) -> dict[str, Any]:
    """Run each load `runs` times on each target, alternating, and take medians."""
    results: dict[str, Any] = {}
    for load in loads:
        taken: dict[str, list[dict[str, Any]]] = {target.name: [] for target in over}
        for number in range(runs):
            for target in over:
                log(f"{load.name}: {target.name}, run {number + 1} of {runs}, {load.seconds:.0f} s")
                bench.pin()  # restarted and new processes too
                taken[target.name].append(scenarios.run(load, target, bench))
        medians = {name: median(figures) for name, figures in taken.items()}
        results[load.name] = {
            "title": load.title,
            "median": medians,
            "added": {name: added(medians[name], medians["direct"]) for name in medians if name != "direct"},
            "runs": taken,
        }
    return results


def warm(over: Sequence[Target], bench: BenchFleet, seconds: float = 3.0) -> None:
    """Warm up every target with each kind of request."""
    for streamed in (False, True):
        for target in over:
            scenarios.run(Scenario("warm", "", streamed=streamed, connections=16, seconds=seconds / 2), target, bench)


def keep(results: dict[str, Any], out: Path | None) -> None:
    """Write the results to a file, if one is given."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        log(f"written to {out}")


def main() -> None:
    parser = arguments(__doc__)
    options = parser.parse_args()
    loads = chosen(options)
    log("starting a fleet for the bench in .argosy/bench")
    with bench_fleet(options.replicas) as bench:
        through = targets.fleet(bench)
        over = [targets.direct(bench), through]
        warm(over, bench, 1.0 if options.quick else 3.0)
        time.sleep(_REST_SECONDS)
        results = about() | {"rest": scenarios.rest(through)}
        if IDLE in options.only.split(","):
            # First and once: later, memory freed by other loads would hide the memory of streams.
            log(f"idle: {scenarios.IDLE_STREAMS} streams")
            results["idle"] = scenarios.idle(through, bench, 50 if options.quick else scenarios.IDLE_STREAMS)
        results["loads"] = measure(loads, over, bench, options.runs)
    print(show.text(results))
    print("\n".join(["", *show.aligned(goals.rows(results))]))
    keep(results, options.out)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
