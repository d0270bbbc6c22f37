"""The calling side of one stream: it is opened, carries calls, and ends."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from chassis.grpc.exchange.calling import EOF, Call
from chassis.grpc.exchange.wire import CALLS, IN_FLIGHT, OPEN, STREAMS, VERSION, VIOLATIONS, Outbox, frames_of
from chassis.telemetry import logger

SIDE: Final = "client"
OPEN_SECONDS: Final = 5.0
AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})

log = logger("chassis.grpc")

# Counted when somebody looks.
OPEN_STREAMS: Final[set[Stream]] = set()
STREAMS.labels(SIDE).set_function(lambda: len(OPEN_STREAMS))
IN_FLIGHT.labels(SIDE).set_function(lambda: sum(len(stream.calls) for stream in OPEN_STREAMS))

_violations = VIOLATIONS.labels(SIDE)


def _note(reading: asyncio.Task[None]) -> None:
    if reading.done() and not reading.cancelled() and isinstance(reading.exception(), DecodeError):
        _violations.inc()
        log.warning("exchange_violation", reason="not a batch of frames")


class OtherVersion(Exception):
    """The peer does not speak this exchange."""


class Stream:
    """One stream to one replica."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._outbox = Outbox(SIDE)
        self._last_id = 0
        self._carrier: Any = None
        self._idle: asyncio.Future[None] | None = None
        self.calls: dict[int, Call] = {}
        self.open = False
        """Whether it takes new calls."""
        self._ending = False

    @property
    def load(self) -> int:
        """Calls in flight."""
        return len(self.calls)

    @property
    def has_room(self) -> bool:
        """Whether one more call fits."""
        return self.open and len(self.calls) < CALLS and not self._outbox.full

    async def connect(self) -> None:
        """Open it. Raises `ConnectionError`, `OtherVersion`, or `TimeoutError` after 5 s."""
        self._carrier = self._channel.stream_stream(OPEN)(metadata=(VERSION,))
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._shake_hands()
        except grpc.aio.AioRpcError as error:
            raise ConnectionError(error.details()) from error
        except BaseException:
            self._carrier.cancel()
            raise
        self.open = True

    async def _shake_hands(self) -> None:
        told = await self._carrier.initial_metadata()
        if VERSION in tuple(told or ()):
            return
        # A call that was refused has no metadata but a status.
        code, details = await self._carrier.code(), await self._carrier.details()
        if code in AWAY:
            raise ConnectionError(details)
        raise OtherVersion(f"{code.name}: {details}")

    async def run(self) -> None:
        """Carry calls until the stream ends, by whatever side; then every call on it has ended or moved."""
        loop = asyncio.get_running_loop()
        self._idle = loop.create_future()
        writing = loop.create_task(self._outbox.pump(self._carrier.write))
        reading = loop.create_task(self._read())
        OPEN_STREAMS.add(self)
        try:
            self._look_if_idle()
            await asyncio.wait({writing, reading, self._idle}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done() and not reading.done():
                self._outbox.close()
                await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
            _note(reading)
        finally:
            OPEN_STREAMS.discard(self)
            self.open, self._ending = False, True
            self._outbox.close()
            self._carrier.cancel()
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            for call in list(self.calls.values()):
                call.broke(self._outbox.written)

    def drain(self) -> None:
        """Take no new calls, and end when those at hand have."""
        self.open = False
        self._look_if_idle()

    def resume(self) -> bool:
        """Take new calls again after a drain of our own; say whether that changed anything."""
        idle = self._idle is None or self._idle.done()
        if self.open or self._ending or idle:
            return False
        self.open = True
        return True

    def take(self, call: Call) -> None:
        """Begin a call here."""
        self._last_id += 1
        self.calls[self._last_id] = call
        call.stream = self
        call.begin(self._last_id, self._outbox)

    def drop(self, call: Call) -> None:
        """Forget a call."""
        self.calls.pop(call.call_id, None)
        if not self.open:
            self._look_if_idle()

    async def _read(self) -> None:
        calls, read = self.calls, self._carrier.read
        while (data := await read()) is not EOF:
            for frame in frames_of(data):
                call = calls.get(frame.call_id)
                if call is None:
                    self._stray(frame)
                elif not call.receive(frame):
                    _violations.inc()
                    log.warning("exchange_violation", method=call.method, reason="a payload beyond what was allowed")
                    call.cancel()

    def _stray(self, frame: Any) -> None:
        if frame.call_id == 0 and frame.end:
            self._ending = True
            self.drain()
        elif frame.call_id == 0 or frame.call_id > self._last_id:
            _violations.inc()
            log.warning("exchange_violation", reason="no call has this id")
        # Else the call has ended meanwhile: its frames crossed.

    def _look_if_idle(self) -> None:
        if not self.open and not self.calls and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
