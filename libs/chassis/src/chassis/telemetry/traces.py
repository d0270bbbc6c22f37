"""Traces: our own few spans, sent by OTLP where an endpoint is set; next to nothing where none is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import Token
from typing import Any, Protocol, Self

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis.errors import QUOTING, ArgosyError
from chassis.settings import TelemetrySection
from chassis.telemetry.logs import configure_logs
from chassis.tenancy import find_caller

FLUSH_SECONDS = 2.0
KINDS = {kind.name.lower(): kind for kind in SpanKind}

_propagator = TraceContextTextMapPropagator()


class Span(Protocol):
    """A piece of work that is being timed."""

    def set(self, **attributes: Any) -> None:
        """Add attributes; None values are left out."""
        ...


class Telemetry:
    """Logs and traces of a process: set up when made, flushed by `close`."""

    def __init__(self, service: str, section: TelemetrySection) -> None:
        configure_logs(section.log_level, service)
        self.service = service
        self._provider: Any = None
        if section.otlp_endpoint:
            self._provider = _provider(service, section.otlp_endpoint, section.sample_ratio)
            _tracing.tracer = self._provider.get_tracer("argosy")

    async def close(self) -> None:
        """Send what is left, for two seconds at most."""
        provider, self._provider, _tracing.tracer = self._provider, None, None
        if provider is None:
            return
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def flush() -> None:
            provider.shutdown()
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        # A daemon: a collector that does not answer must not keep the process from ending.
        threading.Thread(target=flush, daemon=True, name="flush-traces").start()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await done.wait()
        except TimeoutError:
            return


def span(name: str, *, kind: str = "internal", **attributes: Any) -> AbstractContextManager[Span]:
    """Time a block as a span, with its exception; `kind` is internal, server, client, producer or consumer."""
    if _tracing.tracer is None:
        return _OFF
    return _Recorded(_tracing.tracer, name, KINDS.get(kind, SpanKind.INTERNAL), attributes)


def inject(carrier: MutableMapping[str, str]) -> None:
    """Put the current trace into `carrier` (`traceparent`), if there is one."""
    if _tracing.tracer is not None:
        _propagator.inject(carrier)


def extract(carrier: Mapping[str, str]) -> AbstractContextManager[object]:
    """Within a `with` block, continue the trace that `carrier` names; keys are lower-case."""
    if _tracing.tracer is None or "traceparent" not in carrier:
        return _OFF
    return _Continued(_propagator.extract(carrier))


@contextmanager
def recording_with(tracer: trace.Tracer) -> Iterator[None]:
    """Record spans with `tracer` within a block; for tests."""
    before, _tracing.tracer = _tracing.tracer, tracer
    try:
        yield
    finally:
        _tracing.tracer = before


class _Tracing:
    """The process' tracer; OpenTelemetry's own can be set only once."""

    tracer: trace.Tracer | None = None


class _Off:
    """The span that is not recorded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, **attributes: Any) -> None:
        """Do nothing."""


class _Continued:
    """A remote trace, as the current one."""

    def __init__(self, remote: Context) -> None:
        self._remote = remote

    def __enter__(self) -> None:
        self._token = context.attach(self._remote)

    def __exit__(self, *_: object) -> None:
        _detach(self._token)


class _Recorded:
    """A span that is recorded, with the request and the tenant at hand."""

    def __init__(self, tracer: trace.Tracer, name: str, kind: SpanKind, attributes: dict[str, Any]) -> None:
        self._span = tracer.start_span(name, kind=kind)
        self.set(**attributes)

    def set(self, **attributes: Any) -> None:
        """Add attributes; None values are left out."""
        self._span.set_attributes({key: value for key, value in attributes.items() if value is not None})

    def __enter__(self) -> Self:
        caller = find_caller()
        if caller is not None:
            self.set(request_id=caller.request_id, tenant_id=caller.principal.tenant_id)
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        _detach(self._token)
        if isinstance(error, ArgosyError) and error.kind in QUOTING:
            self.set(**{"error.type": error.reason})
            self._span.set_status(StatusCode.ERROR, error.reason)
        elif isinstance(error, Exception):
            self.set(**{"error.type": error.reason if isinstance(error, ArgosyError) else type(error).__name__})
            self._span.record_exception(error)
            self._span.set_status(StatusCode.ERROR, str(error))
        elif isinstance(error, asyncio.CancelledError):
            self.set(cancelled=True)
        self._span.end()


_tracing = _Tracing()
_OFF = _Off()


def _detach(token: Token[Context]) -> None:
    # OpenTelemetry's own detach logs an error where a generator is closed from another context; nothing is wrong then.
    with suppress(ValueError):
        token.var.reset(token)


def _provider(service: str, endpoint: str, ratio: float) -> Any:
    # Imported here: without tracing, the SDK and the exporter would be most of a process' start.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(ratio),
        resource=Resource.create({"service.name": service}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
