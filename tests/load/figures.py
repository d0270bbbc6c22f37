"""The arithmetic of the bench: percentiles, medians over runs, differences to the direct upstream."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the measured value at `share` of the sorted `values`; 0.0 if there is none."""
    return values[int(share * (len(values) - 1) + 0.5)] if values else 0.0


def spread(values: Sequence[float], name: str, shares: Sequence[int] = (50, 99)) -> dict[str, float]:
    """Return percentiles in milliseconds of `values` in seconds, as `<name>_p50_ms` and so on."""
    ordered = sorted(values)
    return {f"{name}_p{share}_ms": round(percentile(ordered, share / 100) * 1e3, 3) for share in shares}


def median(runs: Sequence[Figures]) -> dict[str, Any]:
    """Take the median of each figure over the runs; errors are summed, other values are the last run's.

    A figure that a run lacks counts in the runs that have it.
    """
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: _middle(name, [run[name] for run in runs if name in run]) for name in names}


def _middle(name: str, values: Sequence[Any]) -> Any:
    if all(isinstance(value, Mapping) for value in values):
        return median(values)
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values[-1]
    if name == "errors":
        return sum(values)
    return statistics.median(values)


def added(through: Figures, direct: Figures) -> dict[str, float]:
    """Return the difference to the direct target, for every latency that both have."""
    names = [name for name in through if name.endswith("_ms") and name in direct]
    return {name: round(through[name] - direct[name], 3) for name in names}


def change_percent(now: float, before: float) -> float | None:
    """Return the change from `before` to `now` in percent; None without a value before."""
    return (now / before - 1) * 100 if before else None
