"""Cancel the work for a request when its client disconnects."""

import asyncio
from types import TracebackType
from typing import Self

from chassis.http import ClientDisconnected, Receive


class CancelOnDisconnect:
    """Cancels the block when the client disconnects; the block then raises ClientDisconnected.

    Enter it after the request's body was read: one task waits on `receive` until then. Call `disarm` before sending the
    last bytes; a disconnect after that is ignored.
    """

    __slots__ = ("_armed", "_disconnected", "_receive", "_task", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._armed = True
        self._disconnected = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be cancelled")
        self._task = task
        self._watcher = asyncio.create_task(self._watch())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._armed = False
        self._watcher.cancel()
        # Its error has a traceback, whose frames refer to this object: they would keep each other, and the request,
        # until the garbage collector comes. Collecting them took about a tenth of the gateway's time.
        del self._watcher
        # A second cancellation, from outside, goes on: the process is stopping.
        if self._disconnected and kind is not None and self._task.uncancel() == 0:
            raise ClientDisconnected("The client disconnected before the response was complete.")

    def disarm(self) -> None:
        """Ignore a disconnect from now on."""
        self._armed = False

    async def _watch(self) -> None:
        while self._armed:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if self._armed:
                    self._armed = False
                    self._disconnected = True
                    self._task.cancel()
                return
