"""Spans and their propagation by W3C trace context.

The first service of a trace decides whether it is sampled. A span is exported at its end when its trace is sampled or
when it failed, so errors are seen at any sampling ratio. The parents of such a failed span may be missing in the trace.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar, Token
from random import getrandbits
from time import time_ns
from typing import Any, Literal, Protocol, Self, TypeAlias

from opentelemetry.trace import TraceState

from chassis.tenancy import Caller, find_caller

Kind: TypeAlias = Literal["internal", "server", "client", "producer", "consumer"]

TRACEPARENT = re.compile(
    r"(?!ff|00-.{52}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
SAMPLED_FLAG = 0x01


class Span(Protocol):
    """A timed operation."""

    def set(self, **attributes: Any) -> None:
        """Add attributes; None values are left out."""
        ...

    def fail(self, error: Exception) -> None:
        """Mark the span as failed, for an error that does not leave its block."""
        ...


class Tracer(Protocol):
    """Sampler and exporter."""

    def should_sample(self, trace_id: int) -> bool:
        """Decide for a trace that starts here."""
        ...

    def export(self, span: RecordingSpan) -> None:
        """Export an ended span; must not raise."""
        ...


class SpanContext:
    """Identity of a span, of this process or a remote one."""

    __slots__ = ("remote", "sampled", "span_id", "state", "trace_id")

    def __init__(self, trace_id: int, span_id: int, state: str, *, sampled: bool, remote: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.state = state
        self.sampled = sampled
        self.remote = remote


_current: ContextVar[SpanContext | None] = ContextVar("span_context", default=None)


def current_trace_id() -> int | None:
    context = _current.get()
    return None if context is None else context.trace_id


def annotate(**attributes: Any) -> None:
    """Add attributes to the current span, if this process records it."""
    current = _current.get()
    if isinstance(current, RecordingSpan):
        current.set(**attributes)


def span(name: str, *, kind: Kind = "internal", **attributes: Any) -> AbstractContextManager[Span]:
    """Time a block as a span and record its exception; request and tenant are added from the context."""
    if _tracing.tracer is None:
        return _NOOP
    return RecordingSpan(_tracing.tracer, name, kind, attributes)


def inject(carrier: MutableMapping[str, str]) -> None:
    """Write the current trace to `carrier` (`traceparent`, `tracestate`), if there is one."""
    context = _current.get()
    if context is None:
        return
    carrier["traceparent"] = f"00-{context.trace_id:032x}-{context.span_id:016x}-{'01' if context.sampled else '00'}"
    if context.state:
        carrier["tracestate"] = context.state


def extract(carrier: Mapping[str, str]) -> AbstractContextManager[object]:
    """Continue the trace in `carrier` (lower-case keys) within a `with` block."""
    if _tracing.tracer is None or "traceparent" not in carrier:
        return _NOOP
    match = TRACEPARENT.fullmatch(carrier["traceparent"].strip())
    if match is None:
        return _NOOP
    state = carrier.get("tracestate")
    # Parsed and rendered, so that a malformed header is not passed on.
    tracestate = TraceState.from_header([state]).to_header() if state else ""
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    return _RemoteSpan(SpanContext(trace_id, span_id, tracestate, sampled=bool(flags & SAMPLED_FLAG), remote=True))


@contextmanager
def tracing_with(tracer: Tracer) -> Iterator[None]:
    """Use `tracer` within a block; for tests."""
    before = set_tracer(tracer)
    try:
        yield
    finally:
        set_tracer(before)


def set_tracer(tracer: Tracer | None) -> Tracer | None:
    """Use `tracer` from now on, or none; returns the one before."""
    before, _tracing.tracer = _tracing.tracer, tracer
    return before


class RecordingSpan(SpanContext):
    """A span of this process. It only keeps what an export would need, because most spans are never exported."""

    __slots__ = (
        "_token",
        "_tracer",
        "attributes",
        "caller",
        "ended_ns",
        "error",
        "kind",
        "name",
        "parent",
        "started_ns",
    )

    def __init__(self, tracer: Tracer, name: str, kind: Kind, attributes: dict[str, Any]) -> None:
        self._tracer = tracer
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.error: Exception | None = None
        self.remote = False

    def set(self, **attributes: Any) -> None:
        self.attributes.update(attributes)

    def fail(self, error: Exception) -> None:
        self.error = error

    def __enter__(self) -> Self:
        self.parent = parent = _current.get()
        if parent is None:
            self.trace_id = getrandbits(128)
            self.sampled = self._tracer.should_sample(self.trace_id)
            self.state = ""
        else:
            self.trace_id, self.sampled, self.state = parent.trace_id, parent.sampled, parent.state
        self.span_id = getrandbits(64)
        self.caller: Caller | None = find_caller()
        self.started_ns = time_ns()
        self._token: Token[SpanContext | None] = _current.set(self)
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        _reset(self._token)
        if isinstance(error, Exception):
            self.error = error
        elif isinstance(error, asyncio.CancelledError):
            self.attributes["cancelled"] = True
        if self.sampled or self.error is not None:
            self.ended_ns = time_ns()
            self._tracer.export(self)
            self.error = None  # the traceback has the frame that refers to this span: a cycle


class _Tracing:
    """The tracer of the process."""

    tracer: Tracer | None = None


class _NoopSpan:
    """The span without tracing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, **attributes: Any) -> None:
        pass

    def fail(self, error: Exception) -> None:
        pass


class _RemoteSpan:
    """Makes a remote span the current one."""

    __slots__ = ("_remote", "_token")

    def __init__(self, remote: SpanContext) -> None:
        self._remote = remote

    def __enter__(self) -> None:
        self._token = _current.set(self._remote)

    def __exit__(self, *_: object) -> None:
        _reset(self._token)


_tracing = _Tracing()
_NOOP = _NoopSpan()


def _reset(token: Token[SpanContext | None]) -> None:
    # A generator that is closed in another context, in which the token is not valid.
    with suppress(ValueError):
        _current.reset(token)
