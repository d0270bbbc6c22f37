"""Spans, kept where a test can look at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.telemetry.traces import recording_with


@contextmanager
def recorded_spans() -> Iterator[Callable[[], list[ReadableSpan]]]:
    """Turn tracing on within a block; call what it yields for the spans that have ended, in that order."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording_with(provider.get_tracer("tests")):
        yield lambda: list(exporter.get_finished_spans())
