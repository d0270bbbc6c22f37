"""Logs: one JSON object per line on stdout, from our own loggers and from those of libraries alike."""

from __future__ import annotations

import atexit
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog

from chassis.telemetry.output import Output
from chassis.telemetry.spans import current_trace
from chassis.tenancy import find_caller

# A field of one of these names never reaches the log, whatever it holds.
SECRET_FIELDS = frozenset({"api_key", "authorization", "cookie", "dsn", "password", "principal", "secret", "token"})
# What the process and the clock say, never who logs.
CORE_FIELDS = frozenset({"time", "level", "service", "event"})
PATIENT = frozenset({"debug", "info"})
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z

Logger = structlog.typing.FilteringBoundLogger

_bound: ContextVar[dict[str, Any] | None] = ContextVar("bound", default=None)


def logger(name: str) -> Logger:
    """Answer a logger: `log.info("event_name", key=value)`. Request, tenant and trace are added from the context."""
    made: Logger = structlog.get_logger(module=name)
    return made


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Add `fields` to every line that is logged within the block."""
    token = _bound.set({**(_bound.get() or {}), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def configure_logs(
    level: str, service: str, stream: Literal["stdout", "stderr"] = "stdout", *, gather: bool = False
) -> None:
    """Send everything to `stream` as JSON, from `level` on; libraries only from warning on, unless `level` is debug.

    With `gather`, the lines of one turn of the event loop are written together at its end: a process that is killed
    loses those of its last turn at most, and what was a warning or worse never waits.
    """
    flush_logs()
    _log.output.stream, _log.output.gathers, _log.service = stream, gather, service
    structlog.configure(
        processors=[_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _SINK,
        cache_logger_on_first_use=True,
    )
    logging.root.handlers[:] = [_Routed()]
    logging.root.setLevel(logging.INFO if level == "debug" else max(logging.WARNING, _number(level)))
    # It logs each failed attempt as an error; `chassis.kafka` says once that the broker went and that it came back.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


def flush_logs() -> None:
    """Write what waits."""
    _log.output.flush()


def stop_gathering() -> None:
    """Write what waits, and from now on each line at once: the loop is about to end."""
    _log.output.gathers = False
    flush_logs()


def context_fields() -> dict[str, Any]:
    """What the context says about the request at hand: request_id, tenant_id, trace_id, and what `bind` added."""
    fields: dict[str, Any] = {}
    caller = find_caller()
    if caller is not None:
        fields["request_id"] = caller.request_id
        fields["tenant_id"] = caller.principal.tenant_id
    trace_id = current_trace()
    if trace_id is not None:
        fields["trace_id"] = f"{trace_id:032x}"
    bound = _bound.get()
    if bound is not None:
        fields.update(bound)
    return fields


class _Log:
    """The process' log."""

    output = Output()
    service = ""


class _Sink:
    """What structlog writes to: it calls the method that is named for the level."""

    def __init__(self, output: Output) -> None:
        self.debug = self.info = self.log = self.msg = output.patient
        self.warning = self.error = self.critical = self.fatal = self.exception = output.pressing


def _line(_: Any, level: str, event: structlog.typing.EventDict) -> bytes:
    """The one processor: adds the context, renders. One step, because each costs a call per line."""
    fields = dict(event)
    exception = _exception(fields.pop("exc_info", None))
    return _render("error" if level == "exception" else level, fields.pop("event", ""), fields, exception)


class _Routed(logging.Handler):
    """Lines of libraries that log through the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's faulty format must not fail its caller
            said = str(record.msg)
        level = record.levelname.lower()
        line = _render(level, said, {"module": record.name}, _exception(record.exc_info))
        write = _log.output.patient if level in PATIENT else _log.output.pressing
        write(line)


def _render(level: str, said: Any, fields: dict[str, Any], exception: str | None) -> bytes:
    around = context_fields()
    around.update(fields)
    if not CORE_FIELDS.isdisjoint(around):
        around = {name: value for name, value in around.items() if name not in CORE_FIELDS}
    line = {"time": datetime.now(UTC), "level": level, "service": _log.service, "event": said, **around}
    if not SECRET_FIELDS.isdisjoint(line):
        line |= dict.fromkeys(line.keys() & SECRET_FIELDS, "[redacted]")
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


_log = _Log()
_SINK = _Sink(_log.output)
atexit.register(flush_logs)
