"""Spans and where they stand: what is timed, who is its parent, how the next process learns of it.

The head of a trace decides whether the trace is kept. A span only takes notes while it runs; it becomes a record at its
end, when its trace is kept or when it failed, so that errors are seen whatever share of traces is. A failure's parents
are known by their ids even where they were not recorded themselves.
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

PARENT = re.compile(
    r"(?!ff|00-.{52}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
KEPT = 0x01  # of the flags in a traceparent


class Span(Protocol):
    """A piece of work that is being timed."""

    def set(self, **attributes: Any) -> None:
        """Add attributes; None values are left out."""
        ...

    def fail(self, error: Exception) -> None:
        """Say that the work failed, where the error does not leave the block by itself."""
        ...


class Recorder(Protocol):
    """Who decides which traces are kept, and takes the spans that are."""

    def keeps(self, trace_id: int) -> bool:
        """Decide for a trace that begins here."""
        ...

    def record(self, note: Note) -> None:
        """Take a span that has ended; must not raise."""
        ...


class Place:
    """A point in a trace: a span of ours, or one of a peer's."""

    __slots__ = ("kept", "remote", "span_id", "state", "trace_id")

    def __init__(self, trace_id: int, span_id: int, state: str, *, kept: bool, remote: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.state = state
        self.kept = kept
        self.remote = remote


_place: ContextVar[Place | None] = ContextVar("place", default=None)


def current_trace() -> int | None:
    """Answer the id of the trace at hand, if there is one."""
    place = _place.get()
    return None if place is None else place.trace_id


def span(name: str, *, kind: Kind = "internal", **attributes: Any) -> AbstractContextManager[Span]:
    """Time a block as a span, with its exception; request and tenant are added from the context."""
    if _tracing.recorder is None:
        return _OFF
    return Note(_tracing.recorder, name, kind, attributes)


def inject(carrier: MutableMapping[str, str]) -> None:
    """Put the current trace into `carrier` (W3C's `traceparent`), if there is one."""
    place = _place.get()
    if place is None:
        return
    carrier["traceparent"] = f"00-{place.trace_id:032x}-{place.span_id:016x}-{'01' if place.kept else '00'}"
    if place.state:
        carrier["tracestate"] = place.state


def extract(carrier: Mapping[str, str]) -> AbstractContextManager[object]:
    """Within a `with` block, continue the trace that `carrier` names; keys are lower-case."""
    if _tracing.recorder is None or "traceparent" not in carrier:
        return _OFF
    match = PARENT.fullmatch(carrier["traceparent"].strip())
    if match is None:
        return _OFF
    state = carrier.get("tracestate")
    # Read and written again: a peer's garbage must not become ours.
    known = TraceState.from_header([state]).to_header() if state else ""
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    return _Continued(Place(trace_id, span_id, known, kept=bool(flags & KEPT), remote=True))


@contextmanager
def recording_with(recorder: Recorder) -> Iterator[None]:
    """Record spans with `recorder` within a block; for tests."""
    before = record_with(recorder)
    try:
        yield
    finally:
        record_with(before)


def record_with(recorder: Recorder | None) -> Recorder | None:
    """Record spans with `recorder` from now on, or none; answer who did before."""
    before, _tracing.recorder = _tracing.recorder, recorder
    return before


class Note(Place):
    """A span of ours: what it would say if it were recorded. Cheap, because most never are."""

    __slots__ = (
        "_recorder",
        "_token",
        "attributes",
        "caller",
        "ended_ns",
        "error",
        "kind",
        "name",
        "parent",
        "started_ns",
    )

    def __init__(self, recorder: Recorder, name: str, kind: Kind, attributes: dict[str, Any]) -> None:
        self._recorder = recorder
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.error: Exception | None = None
        self.remote = False

    def set(self, **attributes: Any) -> None:
        """Add attributes; None values are left out."""
        self.attributes.update(attributes)

    def fail(self, error: Exception) -> None:
        """Say that the work failed."""
        self.error = error

    def __enter__(self) -> Self:
        self.parent = parent = _place.get()
        if parent is None:
            self.trace_id = getrandbits(128)
            self.kept = self._recorder.keeps(self.trace_id)
            self.state = ""
        else:
            self.trace_id, self.kept, self.state = parent.trace_id, parent.kept, parent.state
        self.span_id = getrandbits(64)
        self.caller: Caller | None = find_caller()
        self.started_ns = time_ns()
        self._token: Token[Place | None] = _place.set(self)
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        _leave(self._token)
        if isinstance(error, Exception):
            self.error = error
        elif isinstance(error, asyncio.CancelledError):
            self.attributes["cancelled"] = True
        if self.kept or self.error is not None:
            self.ended_ns = time_ns()
            self._recorder.record(self)
            self.error = None  # its traceback holds the frame that holds this span


class _Tracing:
    """The process' recorder."""

    recorder: Recorder | None = None


class _Off:
    """The span that is not recorded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, **attributes: Any) -> None:
        """Do nothing."""

    def fail(self, error: Exception) -> None:
        """Do nothing."""


class _Continued:
    """A remote trace, as the current one."""

    __slots__ = ("_remote", "_token")

    def __init__(self, remote: Place) -> None:
        self._remote = remote

    def __enter__(self) -> None:
        self._token = _place.set(self._remote)

    def __exit__(self, *_: object) -> None:
        _leave(self._token)


_tracing = _Tracing()
_OFF = _Off()


def _leave(token: Token[Place | None]) -> None:
    # A generator that is closed from another context: that context never was at this place.
    with suppress(ValueError):
        _place.reset(token)
