"""Spans, kept where a test can look at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.telemetry.otlp import SdkRecorder
from chassis.telemetry.spans import recording_with


@contextmanager
def recorded_spans(ratio: float = 1.0) -> Iterator[Callable[[], list[ReadableSpan]]]:
    """Turn tracing on within a block; call what it yields for the spans that have ended, in that order.

    `ratio` is the share of the traces begun within the block that are kept.
    """
    exporter = InMemorySpanExporter()
    with recording_with(SdkRecorder(SimpleSpanProcessor(exporter), Resource.get_empty(), ratio)):
        yield lambda: list(exporter.get_finished_spans())
