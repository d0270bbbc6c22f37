"""Server-sent events, with the client's pace and the client's departure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from chassis.http.asgi import ClientGone, Header, Receive, Send

HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)


class EventStream:
    """An answer of server-sent events: `async with EventStream(receive, send) as stream: await stream.write(data)`.

    Read the request's body first: from then on the stream listens for the client's departure, which sets `gone`.
    Leaving the block ends the answer; leaving it by an exception cuts it, so that nobody takes it for complete.
    """

    def __init__(self, receive: Receive, send: Send, headers: Iterable[Header] = (), status: int = 200) -> None:
        self.gone = asyncio.Event()
        self._receive = receive
        self._send = send
        self._start = {"type": "http.response.start", "status": status, "headers": [*HEADERS, *headers]}
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._send(self._start)
        # One task per stream, none per event.
        self._watch = asyncio.create_task(self._listen())
        return self

    async def write(self, data: bytes) -> None:
        """Send one event, and wait while the client reads slower than we write. Raises `ClientGone`."""
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        await self.write_raw(b"data: " + data + b"\n\n")

    async def write_raw(self, events: bytes) -> None:
        """Send what is in the format already: one event or several. Raises `ClientGone`."""
        if self.gone.is_set():
            raise ClientGone("The client closed the stream.")
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if error is None and not self.gone.is_set():
            await self._send({"type": "http.response.body", "body": b""})

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
