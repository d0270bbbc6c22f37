"""Logs: one JSON object per line on stdout, from our own loggers and from those of libraries."""

from __future__ import annotations

import asyncio
import atexit
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from chassis.telemetry.redaction import mask_keys_in_bytes
from chassis.telemetry.spans import current_trace_id
from chassis.tenancy import find_caller

MAX_BUFFERED_LINES = 256


class Output:
    """Writes lines to stdout or stderr; lines that cannot be written are dropped.

    While `buffering`, lines of `write_buffered` are written at the end of the event loop turn.
    """

    def __init__(self) -> None:
        self.stream: Literal["stdout", "stderr"] = "stdout"
        self.buffering = False
        self._lines: list[bytes] = []
        self._scheduled_on: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._writing_thread: int | None = None

    def write_buffered(self, line: bytes) -> None:
        """Write a line at the end of this event loop turn; at once without a loop, or when the buffer is full."""
        self._lines.append(line)
        # asyncio.get_running_loop raises without a loop and is no faster with one.
        loop = asyncio._get_running_loop() if self.buffering else None
        if loop is None or len(self._lines) >= MAX_BUFFERED_LINES:
            self.flush()
        elif loop is not self._scheduled_on:
            self._scheduled_on = loop
            loop.call_soon(self.flush)

    def write_now(self, line: bytes) -> None:
        """Write the buffered lines and this one."""
        self._lines.append(line)
        self.flush()

    def flush(self) -> None:
        self._scheduled_on = None
        thread = threading.get_ident()
        if self._writing_thread == thread:
            return  # a finalizer has logged during the loop below, which will write that line too
        with self._lock:
            self._writing_thread = thread
            try:
                while self._lines:
                    self._write(self._take())
            finally:
                self._writing_thread = None

    def _take(self) -> bytes:
        # The list must not be replaced, because another thread may be about to append to it.
        count = len(self._lines)
        lines = b"".join(self._lines[:count])
        del self._lines[:count]
        return lines

    def _write(self, lines: bytes) -> None:
        try:
            binary = getattr(sys, self.stream).buffer
            binary.write(lines)
            binary.flush()
        except Exception:  # noqa: BLE001, S110 - a failure to log cannot be logged
            pass


# Values of fields with these names are redacted.
SECRET_FIELDS = frozenset({"api_key", "authorization", "cookie", "dsn", "password", "principal", "secret", "token"})
# Fields that log calls cannot override.
CORE_FIELDS = frozenset({"time", "level", "service", "event"})
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z

_bound: ContextVar[dict[str, Any] | None] = ContextVar("bound", default=None)


class Logger:
    """Logs events of a module; `exc_info` is an exception, or true for the one being handled.

    Written here because a line costs twice as much with structlog and four times as much with the standard library.
    """

    __slots__ = ("_module",)

    def __init__(self, module: str) -> None:
        self._module = module

    def debug(self, event: str, /, **fields: Any) -> None:
        if _log.threshold <= logging.DEBUG:
            _log.output.write_buffered(self._line("debug", event, fields))

    def info(self, event: str, /, **fields: Any) -> None:
        if _log.threshold <= logging.INFO:
            _log.output.write_buffered(self._line("info", event, fields))

    def warning(self, event: str, /, **fields: Any) -> None:
        if _log.threshold <= logging.WARNING:
            _log.output.write_now(self._line("warning", event, fields))

    def error(self, event: str, /, **fields: Any) -> None:
        _log.output.write_now(self._line("error", event, fields))

    def exception(self, event: str, /, **fields: Any) -> None:
        """Log an error with the exception that is being handled."""
        _log.output.write_now(self._line("error", event, {"exc_info": True, **fields}))

    def critical(self, event: str, /, **fields: Any) -> None:
        _log.output.write_now(self._line("critical", event, fields))

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> bytes:
        exception = _format_exception(fields.pop("exc_info")) if "exc_info" in fields else None
        return _render(level, event, self._module, fields, exception)


def logger(name: str) -> Logger:
    """Make a logger: `log.info("event_name", key=value)`. Request, tenant and trace are added from the context."""
    return Logger(name)


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Add `fields` to every line logged within the block."""
    token = _bound.set({**(_bound.get() or {}), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def configure_logs(
    level: str, service: str, stream: Literal["stdout", "stderr"] = "stdout", *, buffered: bool = False
) -> None:
    """Log to `stream` as JSON from `level` on; libraries only from warning on, unless `level` is debug.

    `buffered` writes the lines of an event loop turn together at its end. A killed process then loses the lines of its
    last turn at most; warnings and errors are never delayed.
    """
    flush_logs()
    _log.output.stream, _log.output.buffering = stream, buffered
    _log.service, _log.threshold = service, _level_number(level)
    logging.root.handlers[:] = [_LibraryHandler()]
    logging.root.setLevel(logging.INFO if level == "debug" else max(logging.WARNING, _level_number(level)))
    # It logs each failed attempt as an error; `chassis.kafka` logs the outage and the recovery once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


def flush_logs() -> None:
    """Write buffered lines."""
    _log.output.flush()


def stop_buffering() -> None:
    """Write buffered lines, and from now on each line at once, because the event loop is about to end."""
    _log.output.buffering = False
    flush_logs()


@contextmanager
def writing_to(output: Output) -> Iterator[None]:
    """Log to `output` within a block, from info on; for tests. The configuration before it is restored."""
    before = _log.output, _log.service, _log.threshold
    _log.output, _log.threshold = output, logging.INFO
    try:
        yield
    finally:
        _log.output, _log.service, _log.threshold = before


def context_fields() -> dict[str, Any]:
    """Return the fields of the current context: request_id, tenant_id, trace_id, and those of `bind`."""
    fields: dict[str, Any] = {}
    caller = find_caller()
    if caller is not None:
        fields["request_id"] = caller.request_id
        fields["tenant_id"] = caller.principal.tenant_id
    trace_id = current_trace_id()
    if trace_id is not None:
        fields["trace_id"] = f"{trace_id:032x}"
    bound = _bound.get()
    if bound is not None:
        fields.update(bound)
    return fields


class _Log:
    """The log of the process."""

    output = Output()
    service = ""
    threshold = logging.INFO


class _LibraryHandler(logging.Handler):
    """Writes the lines of libraries that use the standard library's logging."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write without the handler's lock: a finalizer that logs while the output is written would deadlock."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a faulty format string must not fail the library's caller
            message = str(record.msg)
        line = _render(record.levelname.lower(), message, record.name, {}, _format_exception(record.exc_info))
        write = _log.output.write_buffered if record.levelno < logging.WARNING else _log.output.write_now
        write(line)


def _render(level: str, event: Any, module: str, fields: dict[str, Any], exception: str | None) -> bytes:
    extra = context_fields()
    if fields:
        extra.update(fields)
    if not CORE_FIELDS.isdisjoint(extra):
        extra = {name: value for name, value in extra.items() if name not in CORE_FIELDS}
    now = datetime.now(UTC)
    line = {"time": now, "level": level, "service": _log.service, "event": event, "module": module, **extra}
    if not SECRET_FIELDS.isdisjoint(line):
        line |= dict.fromkeys(line.keys() & SECRET_FIELDS, "[redacted]")
    if exception is not None:
        line["exception"] = exception
    try:
        rendered = orjson.dumps(line, default=_to_text, option=OPTIONS)
    except Exception:  # noqa: BLE001 - an unserializable value must not fail the caller
        rendered = orjson.dumps({_to_ascii(key): _to_ascii(value) for key, value in line.items()}, option=OPTIONS)
    return mask_keys_in_bytes(rendered)


def _to_ascii(value: Any) -> str:
    try:
        return str(value).encode("ascii", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - not even `str` must fail the caller
        return f"unreadable {type(value).__name__}"


def _to_text(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value)


def _format_exception(exc_info: Any) -> str | None:
    if not exc_info:
        return None
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    if isinstance(exc_info, tuple):
        error = exc_info[1]
    return "".join(traceback.format_exception(error)) if error is not None else None


def _level_number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


_log = _Log()
atexit.register(flush_logs)
