"""CPU per request of two checkouts in turns: `make bench-turns AGAINST=/path/of/the/other/checkout`.

A machine's speed drifts by tens of percent within minutes, so two runs one after the other say little. Here both
fleets run at the same time, and short loads go to one and the other by turns; the ratio is taken within each turn,
and the median of the ratios is printed, with their quartiles. What a fleet's services take without requests is measured
first and taken off: in a short load it is a tenth of all, at saturation next to nothing. The other checkout needs its
own `make setup`. With `--miss` requests of this checkout ask the response cache, miss, and have their answer kept.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from tests.fleet.environment import ROOT
from tests.load.bench import log
from tests.load.show import Rows, aligned

_READY = "ready"
_IDLE = "10"
"""Seconds without requests."""
_SIDE = """
import json, sys, time
from tests.load import scenarios, targets
from tests.load.bench import warm
from tests.load.bench_fleet import bench_fleet
from tests.load.scenarios import Scenario
from tests.load.watch import Reading
loads = {
    "request": Scenario("requests", "", requests=300, connections=16, seconds=60),
    "chunk": Scenario("chunks", "", requests=40, connections=8, seconds=60, streamed=True),
}
counts = {"request": "answers", "chunk": "chunks"}
def read():
    return Reading.of([group for group in target.groups() if group.name in target.subjects])
with bench_fleet() as bench:
    target = targets.fleet(bench)
    if "miss" in sys.argv:
        for load in loads.values():
            path = bench.body(load.mode, streamed=load.streamed, size_bytes=load.size_bytes)
            path.write_text(json.dumps(json.loads(path.read_text()) | {"argosy": {"cache": {"mode": "write"}}}))
    warm([target], bench)
    print("ready", flush=True)
    idle = {}
    for line in sys.stdin:
        unit, before = line.strip(), read()
        if unit in loads:
            figures = scenarios.run(loads[unit], target, bench)
            count = figures[counts[unit]]
        else:
            time.sleep(float(unit))
            count = float(unit)
        after = read()
        took = after.at - before.at
        spent = {name: 1e6 * used - idle.get(name, 0.0) * took for name, used in after.cpu_since(before).items()}
        if unit not in loads:
            idle = {name: used / took for name, used in spent.items()}
        spent["all"] = sum(spent.values())
        print(json.dumps({name: used / count for name, used in spent.items()}), flush=True)
"""
"""What each checkout's own interpreter runs; it uses only names that older checkouts have, too."""


@dataclass(frozen=True, slots=True)
class Side:
    """A fleet of one checkout that takes loads."""

    process: subprocess.Popen[str]

    def spent(self, unit: str) -> dict[str, float]:
        """CPU in microseconds per `unit`, by service; of a number of seconds without requests, per second.

        SystemExit if its fleet has failed.
        """
        assert self.process.stdin
        self.process.stdin.write(f"{unit}\n")
        self.process.stdin.flush()
        figures: dict[str, float] = json.loads(self._line())
        return figures

    def wait(self) -> None:
        """Wait until its fleet is warm."""
        while self._line() != _READY:
            pass

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: the fleet of {self.process.args!r} ended; see its .argosy/bench/logs")
        return line.strip()


@contextmanager
def side(checkout: Path, *arguments: str) -> Iterator[Side]:
    """Run a checkout's fleet; it stops when its standard input closes."""
    command = [str(checkout / ".venv/bin/python"), "-c", _SIDE, *arguments]
    with subprocess.Popen(
        command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield Side(process)
        assert process.stdin
        process.stdin.close()
        process.wait(60)


def compared(unit: str, turns: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> Rows:
    """Rows of both medians, the median of the ratios within a turn, and what that ratio is in microseconds.

    The last column compares the lower quartiles of both.

    `turns` has the figures of the other checkout and of this one, by service.
    """
    table: Rows = [(f"CPU, µs per {unit}", "other", "this", "this / other", "quartiles", "added", "at the quietest")]
    for name in turns[0][1]:
        pairs = [(other.get(name, 0.0), mine[name]) for other, mine in turns]
        was, now = median(other for other, _ in pairs), median(mine for _, mine in pairs)
        if not was:
            table.append((name, "–", f"{now:,.1f}", "–", "–", "–", "–"))
            continue
        first, ratio, third = quartiles([mine / other for other, mine in pairs if other])
        # What shares the machine only ever adds: the cheapest quarter of each side's loads had the least of it.
        least = [quartiles(one)[0] for one in zip(*pairs, strict=True)]
        shown = (f"{was:,.1f}", f"{now:,.1f}", f"{ratio:.3f}", f"{first:.3f} to {third:.3f}")
        table.append((name, *shown, f"{was * (ratio - 1):+,.1f}", f"{least[1] - least[0]:+,.1f}"))
    return table


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile; three times the value if there is only one."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, second, third = quantiles(values, n=4, method="inclusive")
    return first, second, third


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("against", type=Path, help="the other checkout's folder")
    parser.add_argument("--turns", type=int, default=40, help="loads for each side (40)")
    parser.add_argument("--units", default="request,chunk", help="what is loaded (request,chunk)")
    parser.add_argument("--miss", action="store_true", help="let this side's requests ask the response cache, and miss")
    options = parser.parse_args()
    if not (options.against / ".venv/bin/python").exists():
        parser.error(f"{options.against} has no .venv; run `make setup` there first")
    with ExitStack() as stack:
        mine = ("miss",) if options.miss else ()
        sides = [stack.enter_context(side(options.against)), stack.enter_context(side(ROOT, *mine))]
        for one in sides:
            one.wait()
        print("\n".join(aligned(compared("second without requests", [(sides[0].spent(_IDLE), sides[1].spent(_IDLE))]))))
        for unit in options.units.split(","):
            turns: list[tuple[Mapping[str, float], Mapping[str, float]]] = []
            for number in range(options.turns):
                order = sides if number % 2 else sides[::-1]
                taken = {one.process.pid: one.spent(unit) for one in order}
                turns.append((taken[sides[0].process.pid], taken[sides[1].process.pid]))
                log(f"{unit}, turn {number + 1}: {turns[-1][0]['all']:,.0f} and {turns[-1][1]['all']:,.0f} µs")
            print("\n".join(aligned(compared(unit, turns))))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
