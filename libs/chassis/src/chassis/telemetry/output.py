"""The log's output: one writer per process, and one write for the lines of an event loop turn."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Literal

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
