"""Logs: one JSON object per line on stdout, from our own loggers and from those of libraries alike."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog
from opentelemetry import trace

from chassis.tenancy import find_caller

# A field of one of these names never reaches the log, whatever it holds.
SECRET_FIELDS = frozenset({"api_key", "authorization", "cookie", "dsn", "password", "principal", "secret", "token"})
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z

Logger = structlog.typing.FilteringBoundLogger


def logger(name: str) -> Logger:
    """Answer a logger: `log.info("event_name", key=value)`. Request, tenant and trace are added from the context."""
    made: Logger = structlog.get_logger(module=name)
    return made


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Add `fields` to every line that is logged within the block."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def configure_logs(level: str, service: str, stream: Literal["stdout", "stderr"] = "stdout") -> None:
    """Send everything to `stream` as JSON, from `level` on; libraries only from warning on, unless `level` is debug."""
    output = _Output(stream)
    structlog.configure(
        processors=[_Line(service)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=True,
    )
    handler = _Routed(service, output)
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.INFO if level == "debug" else max(logging.WARNING, _number(level)))
    # It logs each failed attempt as an error; `chassis.kafka` says once that the broker went and that it came back.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


def context_fields() -> dict[str, Any]:
    """What the context says about the request at hand: request_id, tenant_id, trace_id, and what `bind` added."""
    fields: dict[str, Any] = {}
    caller = find_caller()
    if caller is not None:
        fields["request_id"] = caller.request_id
        fields["tenant_id"] = caller.principal.tenant_id
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = f"{span.trace_id:032x}"
    fields.update(structlog.contextvars.get_contextvars())
    return fields


class _Output:
    """Where lines go. structlog calls the method that is named for the level."""

    def __init__(self, stream: str) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        """Write a line; where that is impossible, drop it."""
        try:
            binary = getattr(sys, self._stream).buffer
            binary.write(line)
            binary.flush()
        except Exception:  # noqa: BLE001, S110 - nowhere left to say that nothing can be said
            pass

    debug = info = warning = error = critical = fatal = exception = log = msg = write


class _Line:
    """The one processor: adds the context, renders. One step, because each costs a call per line."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _: Any, level: str, event: structlog.typing.EventDict) -> bytes:
        exception = _exception(event.pop("exc_info", None))
        return _render(self._service, "error" if level == "exception" else level, dict(event), exception)


class _Routed(logging.Handler):
    """Lines of libraries that log through the standard library."""

    def __init__(self, service: str, output: _Output) -> None:
        super().__init__()
        self._service = service
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {"event": record.getMessage(), "module": record.name}
        except Exception:  # noqa: BLE001 - a library's faulty format must not fail its caller
            fields = {"event": str(record.msg), "module": record.name}
        self._output.write(_render(self._service, record.levelname.lower(), fields, _exception(record.exc_info)))


def _render(service: str, level: str, event: dict[str, Any], exception: str | None) -> bytes:
    core = {"time": datetime.now(UTC), "level": level, "service": service, "event": event.get("event", "")}
    # The core twice: first in the line, and never replaced by a field of the same name.
    line: dict[str, Any] = {**core, **context_fields(), **event, **core}
    for field in line.keys() & SECRET_FIELDS:
        line[field] = "[redacted]"
    if exception is not None:
        line["exception"] = exception
    try:
        return orjson.dumps(line, default=_readable, option=OPTIONS)
    except Exception:  # noqa: BLE001 - a value that cannot be written must not fail who logs it
        return orjson.dumps({_plain(key): _plain(value) for key, value in line.items()}, option=OPTIONS)


def _plain(value: Any) -> str:
    try:
        return str(value).encode("ascii", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - even a value that cannot say what it is
        return f"unreadable {type(value).__name__}"


def _readable(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value)


def _exception(exc_info: Any) -> str | None:
    if not exc_info:
        return None
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    if isinstance(exc_info, tuple):
        error = exc_info[1]
    return "".join(traceback.format_exception(error)) if error is not None else None


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
