"""What becomes of answers that outlast the drain."""

import asyncio
from collections.abc import Callable
from datetime import timedelta


class HangUp:
    """A component that ends running plans in good time before the server cuts their calls.

    It must be stopped before the server: it only sets the hour, and returns.
    """

    name = "hang-up"

    def __init__(self, hang_up: Callable[[], None], after: timedelta) -> None:
        self._hang_up = hang_up
        self._after = after

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """From now on plans have this long."""
        asyncio.get_running_loop().call_later(self._after.total_seconds(), self._hang_up)
