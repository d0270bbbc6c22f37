"""The client side of one stream to one replica: it opens, carries calls, and ends."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from rpc.client_call import EOF, ClientCall
from rpc.metrics import IN_FLIGHT, STREAMS, VIOLATIONS
from rpc.wire import MAX_CALLS, OPEN_METHOD, VERSION_METADATA, Log, SendQueue, decode_batch

SIDE: Final = "client"
OPEN_TIMEOUT_SECONDS: Final = 5.0
UNREACHABLE: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
)

# The gauges count these when they are scraped, which costs calls nothing.
OPEN_STREAMS: Final[set[ClientStream]] = set()
STREAMS.labels(SIDE).set_function(lambda: len(OPEN_STREAMS))
IN_FLIGHT.labels(SIDE).set_function(lambda: sum(len(stream.calls) for stream in OPEN_STREAMS))

_violations = VIOLATIONS.labels(SIDE)


class VersionMismatch(Exception):
    """The peer does not speak this version of the exchange."""


class ClientStream:
    """One stream to one replica."""

    def __init__(self, channel: grpc.aio.Channel, log: Log) -> None:
        self._channel = channel
        self._log = log
        self._send_queue = SendQueue(SIDE)
        self._last_id = 0
        self._rpc: Any = None
        self._idle: asyncio.Future[None] | None = None
        self.calls: dict[int, ClientCall] = {}
        self.open = False
        """Whether it takes new calls."""
        self._ending = False

    @property
    def load(self) -> int:
        """Calls in flight."""
        return len(self.calls)

    @property
    def has_capacity(self) -> bool:
        """Whether one more call fits."""
        return self.open and len(self.calls) < MAX_CALLS and not self._send_queue.full

    async def connect(self) -> None:
        """Open it. Raises `ConnectionError`, `VersionMismatch`, or `TimeoutError` after 5 s."""
        self._rpc = self._channel.stream_stream(OPEN_METHOD)(metadata=(VERSION_METADATA,))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                await self._handshake()
        except grpc.aio.AioRpcError as error:
            raise ConnectionError(error.details()) from error
        except BaseException:
            self._rpc.cancel()
            raise
        self.open = True

    async def _handshake(self) -> None:
        metadata = await self._rpc.initial_metadata()
        if VERSION_METADATA in tuple(metadata or ()):
            return
        # A refused stream has a status but no initial metadata.
        code, details = await self._rpc.code(), await self._rpc.details()
        if code in UNREACHABLE:
            raise ConnectionError(details)
        raise VersionMismatch(f"{code.name}: {details}")

    async def run(self) -> None:
        """Carry calls until either side ends the stream; by then every call on it has ended or is retried elsewhere."""
        loop = asyncio.get_running_loop()
        self._idle = loop.create_future()
        writing = loop.create_task(self._send_queue.pump(self._rpc.write))
        reading = loop.create_task(self._read())
        OPEN_STREAMS.add(self)
        try:
            self._check_idle()
            await asyncio.wait({writing, reading, self._idle}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done() and not reading.done():
                self._send_queue.close()
                await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not reading.cancelled() and isinstance(reading.exception(), DecodeError):
                self._violation(reason="not a batch of frames")
        finally:
            OPEN_STREAMS.discard(self)
            self.open, self._ending = False, True
            self._send_queue.close()
            self._rpc.cancel()
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            for call in list(self.calls.values()):
                call.stream_lost(self._send_queue.written_batches)

    def drain(self) -> None:
        """Take no new calls, and end once the calls in flight have ended."""
        self.open = False
        self._check_idle()

    def resume(self) -> bool:
        """Undo a `drain` that has not ended the stream yet; returns whether that changed anything."""
        idle = self._idle is None or self._idle.done()
        if self.open or self._ending or idle:
            return False
        self.open = True
        return True

    def start_call(self, call: ClientCall) -> None:
        self._last_id += 1
        self.calls[self._last_id] = call
        call.stream = self
        call.start(self._last_id, self._send_queue)

    def remove_call(self, call: ClientCall) -> None:
        self.calls.pop(call.call_id, None)
        if not self.open:
            self._check_idle()

    async def _read(self) -> None:
        calls, read = self.calls, self._rpc.read
        while (data := await read()) is not EOF:
            for frame in decode_batch(data):
                call = calls.get(frame.call_id)
                if call is None:
                    self._receive_without_call(frame)
                elif not call.receive(frame):
                    self._violation(method=call.method, reason="a payload beyond the window")
                    call.cancel()

    def _receive_without_call(self, frame: Any) -> None:
        if frame.call_id == 0 and frame.end:
            self._ending = True
            self.drain()
        elif frame.call_id == 0 or frame.call_id > self._last_id:
            self._violation(reason="no call has this id")
        # Otherwise the call has ended here while the peer's frame was on its way.

    def _violation(self, **fields: Any) -> None:
        _violations.inc()
        self._log.warning("exchange_violation", **fields)

    def _check_idle(self) -> None:
        if not self.open and not self.calls and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
