"""CPU per request against the baseline: `make bench-budget`.

A short fixed amount of work (3,000 whole answers and 180 streams of 104 events), each service's CPU for it, and the
change against `tests/load/baseline.json`. It reports and never fails: --write makes what was measured the new baseline.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.load import machine, scenarios, targets
from tests.load.bench import about, log, warm
from tests.load.bench_fleet import BenchFleet, bench_fleet
from tests.load.figures import change_percent, median
from tests.load.scenarios import Scenario
from tests.load.show import Rows, aligned

BASELINE = Path(__file__).parent / "baseline.json"
_RUNS = 3
WORK = {
    "cpu_us_per_request": Scenario("requests", "", requests=1000, connections=16, seconds=60),
    "cpu_us_per_chunk": Scenario("chunks", "", requests=60, connections=8, seconds=60, streamed=True),
}


def measure(bench: BenchFleet) -> dict[str, dict[str, float]]:
    """Measure three times and take medians, by unit and service."""
    target = targets.fleet(bench)
    taken = {}
    for unit, load in WORK.items():
        log(f"{load.name}: {_RUNS} times {load.requests}")
        taken[unit] = median([scenarios.run(load, target, bench)[unit] for _ in range(_RUNS)])
    return taken


def rows(now: Mapping[str, Mapping[str, float]], before: Mapping[str, Mapping[str, float]]) -> Rows:
    """Rows with the measurement, the baseline and the change."""
    table: Rows = [("CPU, µs", "now", "baseline", "change")]
    for unit, services in now.items():
        for service, cost in services.items():
            was = before.get(unit, {}).get(service)
            change = change_percent(cost, was) if was else None
            label = f"{service} {unit.removeprefix('cpu_us_').replace('_', ' ')}"
            shown = "–" if change is None else f"{change:+.0f} %"
            table.append((label, f"{cost:,.1f}", "–" if was is None else f"{was:,.1f}", shown))
    return table


def main() -> None:
    """Measure, print, and with `--write` replace the baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make this the baseline")
    options = parser.parse_args()
    before: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    with bench_fleet() as bench:
        warm([targets.fleet(bench)], bench)
        now = measure(bench)
    if before and before["machine"]["cpu"] != machine.describe()["cpu"]:
        print(f"The baseline is of another machine ({before['machine']['cpu']}): changes say little.")
    print("\n".join(aligned(rows(now, before))))
    if options.write:
        BASELINE.write_text(json.dumps(about() | now, indent=1) + "\n")
        log(f"written to {BASELINE}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
