"""One side of one call: what came in and waits to be taken, and how much may go out."""

from __future__ import annotations

import asyncio
from collections import deque

from chassis.grpc.exchange.wire import MORE_BYTES, WINDOW_BYTES, Outbox

CREDIT_BYTES = WINDOW_BYTES // 2


class Party:
    """Flow control of one side. A reader that does not take stops the peer's writes to this call, and nobody else's."""

    # Defaults of the class, because most calls never change them, and each one set costs its share of every call.
    silent = False
    """The peer sends nothing more."""
    _news: asyncio.Future[None] | None = None
    _room: asyncio.Event | None = None
    _taken = 0
    _expected = WINDOW_BYTES
    _allowance = WINDOW_BYTES

    def __init__(self, call_id: int, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the running one: asking for it costs a system call."""
        self.call_id = call_id
        self.outbox = outbox
        self._loop = loop
        self._inbox: deque[bytes] = deque()

    def accept(self, payload: bytes) -> bool:
        """Keep a payload for the reader. False if the peer had no right to send it."""
        if self._expected <= 0 or self.silent:
            return False
        self._expected -= len(payload) + MORE_BYTES
        self._inbox.append(payload)
        self.wake()
        return True

    def allow(self, credit: int) -> None:
        """Hear that the peer takes `credit` more bytes."""
        self._allowance += credit
        if self._allowance > 0:
            self.make_room()

    def wake(self) -> None:
        """Let the reader look again."""
        news = self._news
        if news is not None and not news.done():
            news.set_result(None)

    def release(self) -> None:
        """Let reader and writer look again, because the call is over."""
        self.wake()
        self.make_room()

    async def take(self) -> bytes | None:
        """Wait for the next payload; None after the last."""
        while not self._inbox:
            if self.silent:
                return None
            self._news = self._loop.create_future()
            try:
                await self._news
            finally:
                self._news = None
        payload = self._inbox.popleft()
        if not self.silent:
            self._taken += len(payload) + MORE_BYTES
            if self._taken >= CREDIT_BYTES:
                self.outbox.put(self.call_id, credit=self._taken)
                self._expected += self._taken
                self._taken = 0
        return payload

    def forget(self) -> None:
        """Drop what nobody will take any more."""
        self._inbox.clear()

    @property
    def may_send(self) -> bool:
        """Whether a payload may go out now."""
        return self._allowance > 0 and not self.outbox.full

    async def may_send_again(self) -> None:
        """Wait for the peer's credit, or for room in the outbox; until the call is over at most."""
        if self._room is None:
            self._room = asyncio.Event()
        if self.outbox.full:
            self.outbox.when_room(self.make_room)
        await self._room.wait()

    def make_room(self) -> None:
        """Let the writer look again."""
        if self._room is not None:
            self._room.set()
            self._room = None
