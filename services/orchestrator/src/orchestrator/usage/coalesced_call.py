"""One call for many wishes."""

import asyncio
from collections.abc import Callable
from datetime import timedelta


class Gathered:
    """Calls `call` once for all wishes of a little while: that long after the first of them."""

    def __init__(self, call: Callable[[], None], after: timedelta) -> None:
        self._call = call
        self._after_seconds = after.total_seconds()
        self._waiting = False

    def __call__(self) -> None:
        """Wish for a call."""
        if not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(self._after_seconds, self._fire)

    def _fire(self) -> None:
        self._waiting = False
        self._call()
