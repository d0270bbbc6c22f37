"""Telemetry: logs as JSON lines, Prometheus metrics, OpenTelemetry traces.

It never fails its host: what cannot be written is dropped.
"""

from chassis.telemetry.logs import bind, configure_logs, logger
from chassis.telemetry.metrics import Metric, counter, declared_metrics, gauge, histogram, list_metrics
from chassis.telemetry.spans import Span, annotate, extract, inject, span
from chassis.telemetry.traces import Telemetry

__all__ = [
    "Metric",
    "Span",
    "Telemetry",
    "annotate",
    "bind",
    "configure_logs",
    "counter",
    "declared_metrics",
    "extract",
    "gauge",
    "histogram",
    "inject",
    "list_metrics",
    "logger",
    "span",
]
