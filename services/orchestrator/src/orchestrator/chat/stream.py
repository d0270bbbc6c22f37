"""The buffer between the task that runs a plan and the client that reads its answer."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

E = TypeVar("E")


class Recording:
    """The payloads of an answer, as long as they have `max_bytes` at most together."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._payloads: list[bytes] = []

    def add(self, payloads: Sequence[bytes]) -> None:
        if self._left < 0:
            return
        self._left -= sum(map(len, payloads))
        if self._left < 0:
            self._payloads.clear()
        else:
            self._payloads.extend(payloads)

    @property
    def payloads(self) -> Sequence[bytes] | None:
        """All of them; None when they were too large."""
        return None if self._left < 0 else self._payloads


class StreamBuffer(Generic[E]):
    """Payloads on their way to one client. Waiting ones travel together; a full buffer slows the provider down.

    One task puts payloads and the end, another receives them. When the client disconnects, `put` discards its payloads
    and the writing task goes on to its end.
    """

    def __init__(self, max_bytes: int, *, stream: bool = True) -> None:
        """`put` waits while `max_bytes` are buffered. Without `stream`, `receive` waits for that many, or for the end.

        The client needs all of an answer that is not streamed, so it travels as one message if it fits.
        """
        self._max_bytes = max_bytes
        self._stream = stream
        self._payloads: list[bytes] = []
        self._size = 0
        self._closed = False
        self._end: E | None = None
        self._error: BaseException | None = None
        self._on_disconnect: Callable[[], None] | None = None
        # Futures are made only to wait: an answer that is not streamed waits twice, and many chunks never.
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self.disconnected = False
        self.used = False
        """Whether a payload was ever put."""
        self.recording: Recording | None = None
        """Gets a copy of what is put, whether the client is there or not."""

    def fill(self, payloads: Sequence[bytes]) -> None:
        """Buffer payloads that exist already, without waiting for the client."""
        self.used = True
        self._payloads.extend(payloads)
        self._size += sum(map(len, payloads))
        _wake(self._readable)

    async def put(self, payloads: Sequence[bytes]) -> None:
        """Buffer payloads, and wait while the buffer is full. Discards them after a disconnect."""
        self.used = True
        if self.recording is not None:
            self.recording.add(payloads)
        if self.disconnected:
            return
        self._payloads.extend(payloads)
        self._size += sum(map(len, payloads))
        if self._stream or self._size >= self._max_bytes:
            _wake(self._readable)
        while self._size >= self._max_bytes and not self.disconnected:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def close_chunks(self) -> None:
        """Announce that only the end follows. From now on a disconnect is ignored: there is nothing left to stop."""
        self._closed = True

    def end(self, end: E) -> None:
        """Deliver the end, after what is buffered."""
        self._closed, self._end = True, end
        _wake(self._readable)

    def fail(self, error: BaseException) -> None:
        """Raise `error` to the reader, after what is buffered."""
        self._closed, self._error = True, error
        _wake(self._readable)

    async def receive(self) -> Sequence[bytes] | E:
        """Wait for payloads and return all that are buffered, or the end. Raises the error given to `fail`."""
        while not self._ready:
            if self._error is not None:
                raise self._error
            if self._end is not None:
                return self._end
            self._readable = asyncio.get_running_loop().create_future()
            await self._readable
        payloads, self._payloads, self._size = self._payloads, [], 0
        _wake(self._writable)
        return payloads

    @property
    def _ready(self) -> bool:
        ended = self._end is not None or self._error is not None
        return bool(self._payloads) and (self._stream or ended or self._size >= self._max_bytes)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the client disconnects; at once if it already has."""
        if self.disconnected:
            callback()
        else:
            self._on_disconnect = callback

    def disconnect(self) -> None:
        """Note that the client has disconnected. No effect after the end of the chunks, or the second time."""
        if self.disconnected or self._closed:
            return
        self.disconnected = True
        self._payloads, self._size = [], 0
        _wake(self._writable)
        if self._on_disconnect is not None:
            self._on_disconnect()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
