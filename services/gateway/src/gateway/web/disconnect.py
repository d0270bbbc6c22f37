"""Noticing that a client has left, without a task for it."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, cast

from chassis.http import ClientDisconnected, Receive


class Departure:
    """A block that is abandoned when the client leaves: whatever it awaits is cancelled, and ClientGone is raised.

    Enter it when the request's body is read. Call `settle` before the last bytes: after them, being gone is no news.
    """

    __slots__ = ("_left", "_listening", "_receive", "_settled", "_task")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = False
        self._settled = False
        self._listening: Coroutine[Any, Any, Any] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._settled = True
        if self._listening is not None:
            self._listening.close()
        # Another cancellation beside ours (the process stops) is not ours to swallow.
        if self._left and kind is not None and self._task is not None and self._task.uncancel() == 0:
            raise ClientDisconnected("The client left before the answer was complete.")

    def settle(self) -> None:
        """The answer is as good as sent."""
        self._settled = True

    def _listen(self, _woken_by: object = None) -> None:
        """Go on with `receive` until it waits again, and be called when that is over.

        This is what a task would do; one for each request costs more than everything else at the edge of it.
        """
        while not self._settled:
            listening = self._listening
            if listening is None:
                listening = self._listening = cast("Coroutine[Any, Any, Any]", self._receive())
            try:
                waited_for = listening.send(None)
            except StopIteration as message:
                self._listening = None
                if message.value["type"] == "http.disconnect":
                    self._leave()
                    return
            else:
                if waited_for is None:  # it only let the others go first
                    asyncio.get_running_loop().call_soon(self._listen)
                else:
                    waited_for._asyncio_future_blocking = False
                    waited_for.add_done_callback(self._listen)
                return

    def _leave(self) -> None:
        if self._task is not None:
            self._settled = self._left = True
            self._task.cancel()
