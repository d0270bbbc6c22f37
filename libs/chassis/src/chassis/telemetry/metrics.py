"""Prometheus metrics. Each service declares its own in `metrics.py`; the declarations are the reference page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import prometheus_client

# Seconds: from a cache hit to a long stream.
LATENCY_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_declared: dict[str, Metric] = {}

# A `_created` series for each counter would double what is scraped, and nobody reads it.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Metric:
    """A declared metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]


def counter(name: str, help: str, labels: Sequence[str] = ()) -> prometheus_client.Counter:  # noqa: A002 - Prometheus' word
    """Declare a number that only grows; its name ends in `_total`. Where it is hot, keep what `labels()` answers."""
    if not name.endswith("_total"):
        raise ValueError(f"{name}: a counter's name ends in _total")
    _declare(Metric(name, "counter", help, tuple(labels)))
    return prometheus_client.Counter(name, help, labels)


def gauge(name: str, help: str, labels: Sequence[str] = ()) -> prometheus_client.Gauge:  # noqa: A002 - Prometheus' word
    """Declare a number that rises and falls."""
    _declare(Metric(name, "gauge", help, tuple(labels)))
    return prometheus_client.Gauge(name, help, labels)


def histogram(
    name: str,
    help: str,  # noqa: A002 - Prometheus' word
    labels: Sequence[str] = (),
    buckets: Sequence[float] = LATENCY_SECONDS,
) -> prometheus_client.Histogram:
    """Declare a distribution; without `buckets` it is one of seconds."""
    _declare(Metric(name, "histogram", help, tuple(labels)))
    return prometheus_client.Histogram(name, help, labels, buckets=buckets)


def declared_metrics() -> list[Metric]:
    """Every metric that the imported modules declare, by name; for the reference page and the lint of alerts."""
    return sorted(_declared.values(), key=lambda metric: metric.name)


def exposition() -> bytes:
    """Everything measured, in Prometheus' text format."""
    return prometheus_client.generate_latest()


def _declare(metric: Metric) -> None:
    if not metric.help.strip():
        raise ValueError(f"{metric.name}: say what it counts")
    _declared[metric.name] = metric
