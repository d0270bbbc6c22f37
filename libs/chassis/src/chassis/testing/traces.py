"""Captured spans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.telemetry.otlp import SdkTracer
from chassis.telemetry.spans import tracing_with


@contextmanager
def recorded_spans(ratio: float = 1.0) -> Iterator[Callable[[], list[ReadableSpan]]]:
    """Trace within a block; the function that it yields returns the ended spans in order.

    `ratio` is the sampled share of the traces that start within the block.
    """
    exporter = InMemorySpanExporter()
    with tracing_with(SdkTracer(SimpleSpanProcessor(exporter), Resource.get_empty(), ratio)):
        yield lambda: list(exporter.get_finished_spans())
