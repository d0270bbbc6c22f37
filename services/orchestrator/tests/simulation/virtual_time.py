"""An event loop in virtual time: when nothing is ready, the clock jumps to the next timer."""

from __future__ import annotations

import asyncio
from typing import Any


class NothingLeft(RuntimeError):
    """Every task waits for an event that no timer will bring."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks in the order in which they become ready; there is no I/O and no other thread."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self._selector = self  # what the base class asks when it has nothing to do

    def time(self) -> float:
        return self._seconds

    def select(self, timeout: float | None) -> list[Any]:
        """Wait for `timeout` seconds: at once."""
        if timeout is None:
            raise NothingLeft
        self._seconds += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
