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

from chassis.telemetry.output import Output
from chassis.telemetry.spans import current_trace
from chassis.tenancy import find_caller

# A field of one of these names never reaches the log, whatever it holds.
SECRET_FIELDS = frozenset({"api_key", "authorization", "cookie", "dsn", "password", "principal", "secret", "token"})
# What the process and the clock say, never who logs.
CORE_FIELDS = frozenset({"time", "level", "service", "event"})
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z

_bound: ContextVar[dict[str, Any] | None] = ContextVar("bound", default=None)


class Logger:
    """Writes lines in the name of a module; `exc_info` is an exception, or true for the one being handled.

    Our own, because a line per request through structlog costs twice as much, through the standard library four times.
    """

    __slots__ = ("_module",)

    def __init__(self, module: str) -> None:
        self._module = module

    def debug(self, event: str, /, **fields: Any) -> None:
        """Say what only somebody who looks for it wants to know."""
        if _log.threshold <= logging.DEBUG:
            _log.output.patient(self._line("debug", event, fields))

    def info(self, event: str, /, **fields: Any) -> None:
        """Say what happened."""
        if _log.threshold <= logging.INFO:
            _log.output.patient(self._line("info", event, fields))

    def warning(self, event: str, /, **fields: Any) -> None:
        """Say what may need somebody."""
        if _log.threshold <= logging.WARNING:
            _log.output.pressing(self._line("warning", event, fields))

    def error(self, event: str, /, **fields: Any) -> None:
        """Say what went wrong."""
        _log.output.pressing(self._line("error", event, fields))

    def exception(self, event: str, /, **fields: Any) -> None:
        """Say what went wrong, with the exception that is being handled."""
        _log.output.pressing(self._line("error", event, {"exc_info": True, **fields}))

    def critical(self, event: str, /, **fields: Any) -> None:
        """Say what ends the process."""
        _log.output.pressing(self._line("critical", event, fields))

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> bytes:
        exception = _exception(fields.pop("exc_info")) if "exc_info" in fields else None
        return _render(level, event, self._module, fields, exception)


def logger(name: str) -> Logger:
    """Answer a logger: `log.info("event_name", key=value)`. Request, tenant and trace are added from the context."""
    return Logger(name)


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
    _log.output.stream, _log.output.gathers = stream, gather
    _log.service, _log.threshold = service, _number(level)
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


@contextmanager
def writing_to(output: Output) -> Iterator[None]:
    """Write to `output` within a block, from info on; for tests. What is configured within the block ends with it."""
    before = _log.output, _log.service, _log.threshold
    _log.output, _log.threshold = output, logging.INFO
    try:
        yield
    finally:
        _log.output, _log.service, _log.threshold = before


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
    threshold = logging.INFO


class _Routed(logging.Handler):
    """Lines of libraries that log through the standard library."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write without the lock of handlers: a finalizer that logs while the output writes would take both in turn."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's faulty format must not fail its caller
            said = str(record.msg)
        line = _render(record.levelname.lower(), said, record.name, {}, _exception(record.exc_info))
        write = _log.output.patient if record.levelno < logging.WARNING else _log.output.pressing
        write(line)


def _render(level: str, said: Any, module: str, fields: dict[str, Any], exception: str | None) -> bytes:
    around = context_fields()
    if fields:
        around.update(fields)
    if not CORE_FIELDS.isdisjoint(around):
        around = {name: value for name, value in around.items() if name not in CORE_FIELDS}
    now = datetime.now(UTC)
    line = {"time": now, "level": level, "service": _log.service, "event": said, "module": module, **around}
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
atexit.register(flush_logs)
