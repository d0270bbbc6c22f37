"""Export of spans with OpenTelemetry's SDK."""

from __future__ import annotations

import traceback
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext as SdkSpanContext
from opentelemetry.trace import SpanKind, Status, StatusCode, TraceFlags, TraceState

from chassis.errors import CONTAINS_USER_CONTENT, ArgosyError
from chassis.telemetry.logs import logger
from chassis.telemetry.redaction import mask_keys
from chassis.telemetry.spans import RecordingSpan, SpanContext

KINDS = {kind.name.lower(): kind for kind in SpanKind}
SCOPE = InstrumentationScope("argosy")
TRACE_ID_RANGE = 1 << 64  # as OpenTelemetry, sampling uses the lower half of the trace id, alike in all services
SAMPLED = TraceFlags(TraceFlags.SAMPLED)

log = logger("chassis.telemetry")


class SdkTracer:
    """Samples the share `ratio` of the traces that start here and passes spans to a processor of the SDK."""

    def __init__(self, processor: SpanProcessor, resource: Resource, ratio: float) -> None:
        self._processor = processor
        self._resource = resource
        self._bound = round(ratio * TRACE_ID_RANGE)

    def should_sample(self, trace_id: int) -> bool:
        """Decide as OpenTelemetry's TraceIdRatioBased sampler."""
        return trace_id % TRACE_ID_RANGE < self._bound

    def export(self, span: RecordingSpan) -> None:
        try:
            self._processor.on_end(to_readable_span(span, self._resource))
        except Exception as error:  # noqa: BLE001 - telemetry never fails its host
            log.debug("span_export_failed", name=span.name, error=type(error).__name__)

    def close(self) -> None:
        """Send the remaining spans; blocks."""
        self._processor.shutdown()


class OtlpTracer(SdkTracer):
    """Sends spans in batches to an OTLP endpoint, in a background thread."""

    def __init__(self, service: str, endpoint: str, ratio: float) -> None:
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
        super().__init__(BatchSpanProcessor(exporter), Resource.create({"service.name": service}), ratio)


def to_readable_span(span: RecordingSpan, resource: Resource) -> ReadableSpan:
    """Convert an ended span. It is marked as sampled, because processors would drop unsampled failures."""
    attributes = dict(span.attributes)
    if span.caller is not None:
        attributes |= {"request_id": span.caller.request_id, "tenant_id": span.caller.principal.tenant_id}
    status, events = _to_status(span, attributes)
    return ReadableSpan(
        span.name,
        context=_to_sdk_context(span),
        parent=None if span.parent is None else _to_sdk_context(span.parent),
        resource=resource,
        attributes=_bounded(attributes),
        events=events,
        kind=KINDS.get(span.kind, SpanKind.INTERNAL),
        status=status,
        start_time=span.started_ns,
        end_time=span.ended_ns,
        instrumentation_scope=SCOPE,
    )


def _to_sdk_context(context: SpanContext) -> SdkSpanContext:
    state = TraceState.from_header([context.state]) if context.state else None
    return SdkSpanContext(context.trace_id, context.span_id, context.remote, SAMPLED, state)


def _to_status(span: RecordingSpan, attributes: dict[str, Any]) -> tuple[Status, tuple[Event, ...]]:
    error = span.error
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
    return Status(StatusCode.ERROR, mask_keys(str(error))), (Event("exception", _bounded(event), span.ended_ns),)


def _bounded(attributes: dict[str, Any]) -> BoundedAttributes:
    return BoundedAttributes(
        attributes={
            key: mask_keys(value) if isinstance(value, str) else value
            for key, value in attributes.items()
            if value is not None
        }
    )
