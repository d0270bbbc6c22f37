"""CPU per request of two checkouts in turns: `make bench-turns AGAINST=/path/of/the/other/checkout`.

A machine's speed drifts by tens of percent within minutes, so two runs one after the other say little. Here both
fleets run at the same time, and short loads go to one and the other by turns; the ratio is taken within each turn,
and the median of the ratios is printed. The other checkout needs its own `make setup`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.fleet.environment import ROOT
from tests.load.bench import log
from tests.load.show import Rows, aligned

_READY = "ready"
_SIDE = """
import json, sys
from tests.load import scenarios, targets
from tests.load.bench import warm
from tests.load.bench_fleet import bench_fleet
from tests.load.scenarios import Scenario
loads = {
    "request": Scenario("requests", "", requests=600, connections=16, seconds=60),
    "chunk": Scenario("chunks", "", requests=40, connections=8, seconds=60, streamed=True),
}
with bench_fleet() as bench:
    target = targets.fleet(bench)
    warm([target], bench)
    print("ready", flush=True)
    for line in sys.stdin:
        unit = line.strip()
        figures = scenarios.run(loads[unit], target, bench)
        print(json.dumps(figures["cpu_us_per_" + unit]), flush=True)
"""
"""What each checkout's own interpreter runs; it uses only names that older checkouts have, too."""


@dataclass(frozen=True, slots=True)
class Side:
    """A fleet of one checkout that takes loads."""

    process: subprocess.Popen[str]

    def spent(self, unit: str) -> dict[str, float]:
        """CPU in microseconds per `unit`, by service; SystemExit if its fleet has failed."""
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
def side(checkout: Path) -> Iterator[Side]:
    """Run a checkout's fleet; it stops when its standard input closes."""
    command = [str(checkout / ".venv/bin/python"), "-c", _SIDE]
    with subprocess.Popen(
        command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield Side(process)
        assert process.stdin
        process.stdin.close()
        process.wait(60)


def compared(unit: str, turns: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> Rows:
    """Rows of both medians, the median of the ratios within a turn, and what that ratio is in microseconds.

    `turns` has the figures of the other checkout and of this one, by service.
    """
    table: Rows = [(f"CPU, µs per {unit}", "other", "this", "this / other", "added")]
    for name in turns[0][1]:
        pairs = [(other.get(name, 0.0), mine[name]) for other, mine in turns]
        was, now = median(other for other, _ in pairs), median(mine for _, mine in pairs)
        if not was:
            table.append((name, "–", f"{now:,.1f}", "–", "–"))
            continue
        ratio = median(mine / other for other, mine in pairs if other)
        table.append((name, f"{was:,.1f}", f"{now:,.1f}", f"{ratio:.3f}", f"{was * (ratio - 1):+,.1f}"))
    return table


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("against", type=Path, help="the other checkout's folder")
    parser.add_argument("--turns", type=int, default=12, help="loads for each side (12)")
    options = parser.parse_args()
    if not (options.against / ".venv/bin/python").exists():
        parser.error(f"{options.against} has no .venv; run `make setup` there first")
    with ExitStack() as stack:
        sides = [stack.enter_context(side(checkout)) for checkout in (options.against, ROOT)]
        for one in sides:
            one.wait()
        for unit in ("request", "chunk"):
            turns = []
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
