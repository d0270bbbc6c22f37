"""Errors that a library logs at each attempt, at a bounded rate: they have the reason that its own exceptions omit."""

from __future__ import annotations

import logging

from chassis.telemetry.logs import logger
from chassis.telemetry.rate_limited import RateLimitedLog

INTERVAL_SECONDS = 60.0


class RateLimitedHandler(logging.Handler):
    """Logs one line per message template and interval."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.ERROR)
        self._log = RateLimitedLog(logger(name), INTERVAL_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a faulty format string must not fail the library's caller
            message = str(record.msg)
        self._log.warning("library_error", key=str(record.msg)[:100], message=message, library=record.name)


def limit_library(name: str) -> None:
    """Pass errors of a library to the log at a bounded rate, and nothing below."""
    library = logging.getLogger(name)
    library.handlers[:] = [RateLimitedHandler(name)]
    library.setLevel(logging.ERROR)
    library.propagate = False
