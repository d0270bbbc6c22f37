"""Noticing that a client has left, with one task per request and none per chunk."""

import asyncio
from types import TracebackType
from typing import Self

from chassis.http import ClientGone, Receive


class Departure:
    """A block that is abandoned when the client leaves: whatever it awaits is cancelled, and ClientGone is raised.

    Enter it when the request's body is read. Call `settle` before the last bytes: after them, being gone is no news.
    """

    __slots__ = ("_left", "_receive", "_settled", "_task", "_watch")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = False
        self._settled = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._watch = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._settled = True
        self._watch.cancel()
        # Another cancellation beside ours (the process stops) is not ours to swallow.
        if self._left and kind is not None and self._task is not None and self._task.uncancel() == 0:
            raise ClientGone("The client left before the answer was complete.")

    def settle(self) -> None:
        """The answer is as good as sent."""
        self._settled = True

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._settled and self._task is not None:
            self._left = True
            self._task.cancel()
