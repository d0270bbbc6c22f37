"""The goals of the hot path beside the measurements. Shown, not asserted: a busy machine is no bug."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.load.show import Rows, number


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure: its place in the results, and its goal."""

    what: str
    place: str
    bound: float
    digits: int = 1
    at_least: bool = False

    def measured(self, results: Mapping[str, Any]) -> float | None:
        """The measured figure, or None."""
        found: Any = results
        for step in self.place.split("."):
            if not isinstance(found, Mapping) or step not in found:
                return None
            found = found[step]
        return float(found)

    def kept(self, value: float) -> bool:
        """Whether a figure reaches the goal."""
        return value >= self.bound if self.at_least else value <= self.bound


GOALS = (
    Goal(
        "requests/s, all five services on one core", "loads.saturation.median.fleet.per_second", 1_500, 0, at_least=True
    ),
    Goal("added at 50 a second, p50, ms", "loads.steady.added.fleet.latency_p50_ms", 3),
    Goal("added at 50 a second, p99, ms", "loads.steady.added.fleet.latency_p99_ms", 8),
    Goal("CPU of a streamed chunk, all hops, µs", "loads.streams.median.fleet.cpu_us_per_chunk.all", 30),
    Goal("added time to the first of paced chunks, p50, ms", "loads.paced.added.fleet.first_p50_ms", 3),
    Goal("added time to the first of paced chunks, p99, ms", "loads.paced.added.fleet.first_p99_ms", 10),
    Goal("added gap between paced chunks, p99, ms", "loads.paced.added.fleet.gap_p99_ms", 5),
    Goal("memory of the five services at saturation, MB", "loads.saturation.median.fleet.memory_mb.all", 900, 0),
    Goal("memory of a silent stream, all services, KB", "idle.kb_per_stream.all", 60),
)


def rows(results: Mapping[str, Any]) -> Rows:
    """A row for each measured goal; empty without any."""
    table: Rows = []
    for goal in GOALS:
        if (value := goal.measured(results)) is not None:
            sign = "≥" if goal.at_least else "≤"
            mark = "" if goal.kept(value) else "missed"
            table.append((goal.what, number(value, goal.digits), f"{sign} {number(goal.bound, 0)}", mark))
    return [("", "measured", "meant", ""), *table] if table else []
