"""Spans as OpenTelemetry's SDK writes and sends them."""

from __future__ import annotations

import traceback
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from chassis.errors import CONTAINS_USER_CONTENT, ArgosyError
from chassis.telemetry.logs import logger
from chassis.telemetry.spans import Note, Place

KINDS = {kind.name.lower(): kind for kind in SpanKind}
SCOPE = InstrumentationScope("argosy")
IDS = 1 << 64  # OpenTelemetry decides by the lower half of a trace's id; so do all who share a trace
SAMPLED = TraceFlags(TraceFlags.SAMPLED)

log = logger("chassis.telemetry")


class SdkRecorder:
    """Hands spans to a processor of the SDK; keeps the share `ratio` of the traces that begin here."""

    def __init__(self, processor: SpanProcessor, resource: Resource, ratio: float) -> None:
        self._processor = processor
        self._resource = resource
        self._bound = round(ratio * IDS)

    def keeps(self, trace_id: int) -> bool:
        """Decide as OpenTelemetry's own sampler by ratio does."""
        return trace_id % IDS < self._bound

    def record(self, note: Note) -> None:
        """Write a span and hand it on."""
        try:
            self._processor.on_end(written(note, self._resource))
        except Exception as error:  # noqa: BLE001 - telemetry never fails its host
            log.debug("span_lost", name=note.name, error=type(error).__name__)

    def close(self) -> None:
        """Send what is left; blocks."""
        self._processor.shutdown()


class OtlpRecorder(SdkRecorder):
    """Sends spans in batches to an OTLP endpoint, from a thread of its own."""

    def __init__(self, service: str, endpoint: str, ratio: float) -> None:
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
        super().__init__(BatchSpanProcessor(exporter), Resource.create({"service.name": service}), ratio)


def written(note: Note, resource: Resource) -> ReadableSpan:
    """Write a span that has ended. One that failed is marked as sampled: processors would drop it otherwise."""
    attributes = dict(note.attributes)
    if note.caller is not None:
        attributes |= {"request_id": note.caller.request_id, "tenant_id": note.caller.principal.tenant_id}
    status, events = _end(note, attributes)
    return ReadableSpan(
        note.name,
        context=_context(note),
        parent=None if note.parent is None else _context(note.parent),
        resource=resource,
        attributes=_clean(attributes),
        events=events,
        kind=KINDS.get(note.kind, SpanKind.INTERNAL),
        status=status,
        start_time=note.started_ns,
        end_time=note.ended_ns,
        instrumentation_scope=SCOPE,
    )


def _context(place: Place) -> SpanContext:
    state = TraceState.from_header([place.state]) if place.state else None
    return SpanContext(place.trace_id, place.span_id, place.remote, SAMPLED, state)


def _end(note: Note, attributes: dict[str, Any]) -> tuple[Status, tuple[Event, ...]]:
    error = note.error
    if error is None:
        return Status(), ()
    attributes["error.type"] = error.reason if isinstance(error, ArgosyError) else type(error).__name__
    if isinstance(error, ArgosyError) and error.kind in CONTAINS_USER_CONTENT:
        return Status(StatusCode.ERROR, error.reason), ()
    event = {
        "exception.type": f"{type(error).__module__}.{type(error).__qualname__}",
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
    }
    return Status(StatusCode.ERROR, str(error)), (Event("exception", _clean(event), note.ended_ns),)


def _clean(attributes: dict[str, Any]) -> BoundedAttributes:
    return BoundedAttributes(attributes={key: value for key, value in attributes.items() if value is not None})
