"""Where the lines of a log go: one writer for a process, and one write for what gathers in a turn of its loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Literal

MOST_WAITING = 256  # lines


class Output:
    """Writes lines to a stream of the process; where that is impossible, it drops them.

    While it `gathers`, patient lines wait for the end of the turn of the event loop.
    """

    def __init__(self) -> None:
        self.stream: Literal["stdout", "stderr"] = "stdout"
        self.gathers = False
        self._waiting: list[bytes] = []
        self._flusher: asyncio.AbstractEventLoop | None = None
        self._writing = threading.Lock()
        self._writer: int | None = None

    def patient(self, line: bytes) -> None:
        """Write a line when this turn of the loop is over; at once where no loop runs, or too many wait."""
        self._waiting.append(line)
        # The documented one raises where no loop runs, and is no faster where one does.
        loop = asyncio._get_running_loop() if self.gathers else None
        if loop is None or len(self._waiting) >= MOST_WAITING:
            self.flush()
        elif loop is not self._flusher:
            self._flusher = loop
            loop.call_soon(self.flush)

    def pressing(self, line: bytes) -> None:
        """Write a line now, after what waits."""
        self._waiting.append(line)
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self._flusher = None
        thread = threading.get_ident()
        if self._writer == thread:
            return  # a finalizer logs in the middle of the below, which will write that, too
        with self._writing:
            self._writer = thread
            try:
                while self._waiting:
                    self._write(self._taken())
            finally:
                self._writer = None

    def _taken(self) -> bytes:
        # Not by putting an empty list in its place: another thread may be about to append to this one.
        count = len(self._waiting)
        lines = b"".join(self._waiting[:count])
        del self._waiting[:count]
        return lines

    def _write(self, lines: bytes) -> None:
        try:
            binary = getattr(sys, self.stream).buffer
            binary.write(lines)
            binary.flush()
        except Exception:  # noqa: BLE001, S110 - nowhere left to say that nothing can be said
            pass
