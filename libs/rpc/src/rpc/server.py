"""The serving side: every method of a server, through streams that carry many calls each."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError

from chassis.grpc.exchange.answering import EOF, Answering, Method
from chassis.grpc.exchange.deadlines import Deadlines
from chassis.grpc.exchange.wire import (
    CALLS,
    IN_FLIGHT,
    PAYLOAD_BYTES,
    SERVICE,
    STREAMS,
    VERSION,
    VIOLATIONS,
    Outbox,
    frames_of,
)
from chassis.telemetry import logger

SIDE: Final = "server"
LINGER_SECONDS: Final = 1.0  # for a peer to hear that we drain, and to end the stream

log = logger("chassis.grpc")

# Counted when somebody looks.
OPEN_STREAMS: Final[set[Stream]] = set()
STREAMS.labels(SIDE).set_function(lambda: len(OPEN_STREAMS))
IN_FLIGHT.labels(SIDE).set_function(lambda: sum(len(stream.calls) for stream in OPEN_STREAMS))

_violations = VIOLATIONS.labels(SIDE)


class Exchange:
    """Serves `methods` (full name → method) through `argosy.exchange.v1.Exchange/Open`."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._streams: dict[Stream, asyncio.Task[Any]] = {}
        self._draining = False

    def handler(self) -> Any:
        """Return what a gRPC server needs to serve it. Batches are decoded here, so that a bad one has a typed end."""
        handlers: Any = {"Open": grpc.stream_stream_rpc_method_handler(self._open)}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def drain(self) -> None:
        """Take no new calls; streams end when their calls have. Waits a moment for those that have none."""
        self._draining = True
        for stream in self._streams:
            stream.drain()
        idle = [task for stream, task in self._streams.items() if not stream.calls]
        if idle:
            await asyncio.wait(idle, timeout=LINGER_SECONDS)

    async def _open(self, _requests: Any, context: Any) -> None:
        if VERSION not in tuple(context.invocation_metadata() or ()):
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"this peer speaks {VERSION[0]}: {VERSION[1]}, and nothing else"
            )
        await context.send_initial_metadata((VERSION,))
        stream = Stream(self._methods)
        self._streams[stream] = cast("asyncio.Task[Any]", asyncio.current_task())
        OPEN_STREAMS.add(stream)
        broken = False
        try:
            if self._draining:
                stream.drain()
            await stream.run(context)
        except DecodeError:
            broken = True
        finally:
            OPEN_STREAMS.discard(stream)
            del self._streams[stream]
        if broken:  # told here, where no exception holds on to the stream and its calls
            _violations.inc()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a batch of frames")


class Stream:
    """One stream of one peer."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._outbox = Outbox(SIDE)
        self.calls: dict[int, Answering] = {}
        self.deadlines = Deadlines()
        self._last_id = 0
        self._draining = False
        self._idle: asyncio.Future[None] | None = None

    def drain(self) -> None:
        """Say that no new calls are taken, and end when those at hand have."""
        if not self._draining:
            self._draining = True
            self._outbox.put(0, end=True)
        self._look_if_idle()

    async def run(self, context: Any) -> None:
        """Serve until the peer is gone, or has drained, or we have. Raises `DecodeError` for what is no batch."""
        self._idle = asyncio.get_running_loop().create_future()
        writing = asyncio.create_task(self._outbox.pump(context.write))
        reading = asyncio.create_task(self._read(context))
        try:
            self._look_if_idle()
            await asyncio.wait({writing, reading, self._idle}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done() and not reading.done():
                # What the peer sent before it heard is refused, so that it is made elsewhere. It ends the stream then.
                await asyncio.wait({writing, reading}, timeout=LINGER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
                self.drain()  # the peer sends nothing more: what it asked for is still answered
                await asyncio.wait({writing, self._idle}, return_when=asyncio.FIRST_COMPLETED)
            self._outbox.close()
            with suppress(grpc.aio.BaseError, asyncio.InvalidStateError):
                await writing
        finally:
            reading.cancel()
            writing.cancel()
            self._outbox.close()
            self.deadlines.close()
            for call in list(self.calls.values()):
                call.abandon()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(self, context: Any) -> None:
        with suppress(grpc.aio.BaseError):
            while (data := await context.read()) is not EOF:
                for frame in frames_of(data):
                    self._receive(frame)

    def _receive(self, frame: Any) -> None:
        call_id = frame.call_id
        call = self.calls.get(call_id)
        if frame.method:
            if call is None and call_id > self._last_id:
                call = self._begin(call_id, frame)
            else:
                self._break(call_id, call, "a call was begun twice, or out of order")
                return
        elif call is None:
            self._stray(call_id, frame)
            return
        if call is None:
            return
        for payload in frame.payloads:
            if len(payload) > PAYLOAD_BYTES:
                call.stop(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"a request of {len(payload)} bytes is over the limit of {PAYLOAD_BYTES}",
                )
                return
            if not call.accept(payload):
                self._break(call_id, call, "a payload came after the end, or beyond what was allowed")
                return
        if frame.credit:
            call.allow(frame.credit)
        if frame.cancel:
            call.abandon()
        elif frame.end:
            call.silent = True
            call.wake()

    def _begin(self, call_id: int, frame: Any) -> Answering | None:
        self._last_id = call_id
        if self._draining or len(self.calls) >= CALLS or self._outbox.full:
            reason = "this replica is draining" if self._draining else "this replica has too many calls at hand"
            self._outbox.put(call_id, end=True, code=UNAVAILABLE, message=reason, refused=True)
            return None
        method = self._methods.get(frame.method)
        if method is None:
            self._outbox.put(call_id, end=True, code=UNIMPLEMENTED, message="Method not found!")
            return None
        try:
            metadata = _pairs(frame.metadata)
        except ValueError:
            self._break(call_id, None, "the metadata is malformed")
            return None
        seconds = frame.timeout_microseconds / 1e6 or None
        call = Answering(call_id, self._outbox, method, metadata, self)
        if seconds is not None:
            call.limit(seconds)
        self.calls[call_id] = call
        call.begin()
        return call

    def _break(self, call_id: int, call: Answering | None, reason: str) -> None:
        """End the call that a frame broke the rules of; the others go on."""
        _violations.inc()
        log.warning("exchange_violation", call_id=call_id, reason=reason)
        if call is not None:
            call.stop(grpc.StatusCode.INVALID_ARGUMENT, reason)
        elif call_id != 0:
            self._outbox.put(call_id, end=True, code=INVALID_ARGUMENT, message=reason)

    def _stray(self, call_id: int, frame: Any) -> None:
        if call_id == 0 and frame.end:
            self.drain()
        elif call_id == 0 or call_id > self._last_id:
            self._break(call_id, None, "no call has this id")
        # Else the call has ended meanwhile: its frames crossed.

    def forget(self, call: Answering) -> None:
        """The call is over, and its method too."""
        self.calls.pop(call.call_id, None)
        if self._draining:
            self._look_if_idle()

    def _look_if_idle(self) -> None:
        if self._draining and not self.calls and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE.value[0]
UNIMPLEMENTED: Final = grpc.StatusCode.UNIMPLEMENTED.value[0]
INVALID_ARGUMENT: Final = grpc.StatusCode.INVALID_ARGUMENT.value[0]


def _pairs(flat: Any) -> tuple[tuple[str, Any], ...]:
    """Keys and values in turn, to gRPC's pairs; what stands under a key of bytes ("-bin") is base64."""
    texts = list(flat)
    return tuple(
        (key, base64.b64decode(value, validate=True) if key.endswith("-bin") else value)
        for key, value in zip(texts[::2], texts[1::2], strict=True)
    )
