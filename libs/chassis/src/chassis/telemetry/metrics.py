"""Prometheus metrics. Each service declares its own in `metrics.py`; the reference page is generated from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

# Histogram buckets from a cache hit to a long stream.
LATENCY_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_declared: dict[str, Metric] = {}

# A `_created` series for each counter would double the scrape, and no dashboard uses it.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Metric:
    """A declared metric."""

    name: str
    kind: str  # counter, gauge or histogram
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, without infinity."""


def counter(name: str, help: str, labels: Sequence[str] = ()) -> prometheus_client.Counter:  # noqa: A002 - Prometheus' term
    """Declare a counter; its name ends in `_total`. On hot paths keep the result of `labels()`."""
    if not name.endswith("_total"):
        raise ValueError(f"{name}: a counter's name ends in _total")
    _declare(Metric(name, "counter", help, tuple(labels)))
    return prometheus_client.Counter(name, help, labels)


def gauge(name: str, help: str, labels: Sequence[str] = ()) -> prometheus_client.Gauge:  # noqa: A002 - Prometheus' term
    _declare(Metric(name, "gauge", help, tuple(labels)))
    return prometheus_client.Gauge(name, help, labels)


def histogram(
    name: str,
    help: str,  # noqa: A002 - Prometheus' term
    labels: Sequence[str] = (),
    buckets: Sequence[float] = LATENCY_SECONDS,
) -> prometheus_client.Histogram:
    """Declare a histogram; the default `buckets` are seconds."""
    _declare(Metric(name, "histogram", help, tuple(labels), tuple(map(float, buckets))))
    return prometheus_client.Histogram(name, help, labels, buckets=buckets)


def declared_metrics() -> list[Metric]:
    """Return the metrics of all imported modules, by name; for the reference page and the lint of alerts."""
    return sorted(_declared.values(), key=lambda metric: metric.name)


def list_metrics(metrics: Iterable[MetricWrapperBase], labels: Sequence[str]) -> None:
    """List metrics that a library without the chassis declares; all of them have `labels`."""
    for metric in metrics:
        for family in metric.describe():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            _declare(Metric(name, family.type, family.documentation, tuple(labels)))


def exposition() -> bytes:
    """Render all metrics in Prometheus' text format."""
    return prometheus_client.generate_latest()


def _declare(metric: Metric) -> None:
    if not metric.help.strip():
        raise ValueError(f"{metric.name}: the help text is missing")
    _declared[metric.name] = metric
