"""A call as its caller sees it: read, write, iterate, await or cancel it, as one of gRPC's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc

from chassis.errors import ArgosyError
from chassis.grpc.exchange.deadlines import Deadlines
from chassis.grpc.exchange.party import Party
from chassis.grpc.exchange.wire import MORE_BYTES, PAYLOAD_BYTES, Outbox, Status

EOF = grpc.aio.EOF
REFUSALS = 3  # after so many, nobody seems to have room

CANCELLED = Status(grpc.StatusCode.CANCELLED.value[0], "the call was given up")
AWAY = Status(grpc.StatusCode.UNAVAILABLE.value[0], "no connection in time")
LATE = Status(grpc.StatusCode.DEADLINE_EXCEEDED.value[0], "Deadline Exceeded")
TOO_LARGE = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
OK = grpc.StatusCode.OK.value[0]


class Route(Protocol):
    """What a call needs of its channel."""

    deadlines: Deadlines

    def place(self, call: Call) -> None:
        """Begin the call on the best stream, or as soon as there is one; fail it when there is none in time."""

    def leave(self, call: Call) -> None:
        """The call is over, or looks for another place."""

    def failure(self, status: Status) -> ArgosyError:
        """Return what a status means here."""


class Call(Party):
    """One call. It keeps what it sent until the peer says anything, so that it can begin again elsewhere if need be."""

    stream: Any = None
    batch = 0
    """The number of the batch that the call begins with: from then on the peer may have acted on it."""
    refusals = 0
    _status: Status | None = None

    def __init__(
        self,
        route: Route,
        method: str,
        codec: tuple[Callable[[Any], bytes], Callable[[bytes], Any]],
        seconds: float,
        metadata: list[str],
        *,
        safe: bool,
    ) -> None:
        """`safe`: it may be made twice, because doing it again changes nothing."""
        super().__init__(0, NOWHERE, route.deadlines.loop)
        self._route = route
        self.method = method
        self._encode, self._decode = codec
        self.metadata = metadata
        self.safe = safe
        self._opening: list[tuple[bytes | None, bool]] | None = []
        self._due = self._loop.time() + seconds
        self._slot = route.deadlines.add(self, self._due, seconds)

    # What goes out.

    def begin(self, call_id: int, outbox: Outbox) -> None:
        """Send what the call has said so far, under its id on a stream."""
        self.call_id, self.outbox = call_id, outbox
        self.make_room()  # for who waits with a request until there is a place
        left = max(1, int((self._due - self._loop.time()) * 1e6))
        # What follows in this turn joins this frame.
        outbox.put(call_id, method=self.method, timeout_microseconds=left, metadata=self.metadata)
        self.batch = outbox.begun
        for payload, end in self._opening or ():
            self._put(payload, end)

    def send(self, payload: bytes | None, *, end: bool = False) -> None:
        """Send now, whatever the allowance. Before the call has a place, it is kept for it."""
        if payload is not None:
            self._allowance -= len(payload) + MORE_BYTES
        if self._opening is not None:
            self._opening.append((payload, end))
        if self.stream is not None:
            self._put(payload, end)

    def _put(self, payload: bytes | None, end: bool) -> None:
        if end:
            self.outbox.put(self.call_id, payload, end=True)
        else:
            self.outbox.put(self.call_id, payload)

    def encode(self, request: Any) -> bytes:
        """Serialize a request. One over the limit ends the call, as gRPC would, and that is raised."""
        try:
            payload = self._encode(request)
        except Exception:
            self._quit(CANCELLED)
            raise
        if len(payload) > PAYLOAD_BYTES:
            self._quit(Status(TOO_LARGE, f"a request of {len(payload)} bytes is over the limit of {PAYLOAD_BYTES}"))
            self._raise_unless_ok()
        return payload

    # What comes in.

    def receive(self, frame: Any) -> bool:
        """Take a frame from the peer. False if it broke the rules."""
        if frame.refused and self._opening is not None and self.refusals < REFUSALS:
            self.refusals += 1
            self._route.leave(self)
            self._route.place(self)
            return True
        self._opening = None
        for payload in frame.payloads:
            if not self.accept(payload):
                return False
        if frame.credit:
            self.allow(frame.credit)
        if frame.end:
            self.finish(Status(frame.code, frame.message, frame.details, tuple(frame.metadata)))
        return True

    def broke(self, written: int) -> None:
        """The stream is gone, after `written` batches: begin again elsewhere if that cannot do anything twice."""
        self._route.leave(self)
        unsent = self.batch > written
        if self._opening is not None and (unsent or self.safe):
            self._route.place(self)
        else:
            self.finish(BROKEN)

    def finish(self, status: Status) -> None:
        """End it, once."""
        if self._status is not None:
            return
        self._status = status
        self._opening = None
        self.silent = True
        self._route.deadlines.remove(self, self._slot)
        self._route.leave(self)
        self.release()

    def expire(self) -> None:
        """End it: the time is up."""
        self._quit(AWAY if self.stream is None else LATE)

    def _quit(self, status: Status) -> None:
        if self._status is None:
            if self.stream is not None:
                self.outbox.put(self.call_id, cancel=True)
            self.finish(status)
            self.forget()

    # The face of gRPC's calls.

    async def read_bytes(self) -> bytes | None:
        """Wait for the next payload; None after the last. Raises what the call failed with."""
        try:
            payload = await self.take()
        except asyncio.CancelledError:
            self._quit(CANCELLED)
            raise
        if payload is None:
            self._raise_unless_ok()
        return payload

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        payload = await self.read_bytes()
        return EOF if payload is None else self._decode(payload)

    async def single(self) -> Any:
        """Return the one response of a call that has one."""
        payload = await self.read_bytes()
        if payload is None:
            raise self._route.failure(NO_ANSWER)
        if not self.silent:
            # The answer counts only with its status, which nearly always came with it.
            await self.read_bytes()
        self._raise_unless_ok()
        return self._decode(payload)

    async def write(self, request: Any) -> None:
        """Send one more request. Without effect when the peer has already ended the call well: nobody needs it."""
        payload = self.encode(request)
        while self._status is None and not (self.may_send and self.stream is not None):
            await self.may_send_again()
        if self._status is None:
            self.send(payload)
        else:
            self._raise_unless_ok()

    async def done_writing(self) -> None:
        """Say that no more requests come."""
        if self._status is None:
            self.send(None, end=True)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._status is not None

    def cancel(self) -> bool:
        """Give the call up; say whether there was something to give up."""
        going = self._status is None
        self._quit(CANCELLED)
        return going

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            while (payload := await self.read_bytes()) is not None:
                yield self._decode(payload)
        finally:
            self.cancel()

    def __await__(self) -> Any:
        return self.single().__await__()

    def _raise_unless_ok(self) -> None:
        if self._status is not None and self._status.code != OK:
            raise self._route.failure(self._status)


NOWHERE = Outbox("client")
"""Stands in until a call has a place; nothing is ever put into it."""

BROKEN = Status(grpc.StatusCode.UNAVAILABLE.value[0], "the stream broke")
NO_ANSWER = Status(grpc.StatusCode.INTERNAL.value[0], "the call ended without an answer")
