"""The server side of the exchange: one stream per peer, each carrying many calls of any method."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError

from rpc.flow_control import Deadlines
from rpc.metrics import IN_FLIGHT, STREAMS, VIOLATIONS
from rpc.server_call import EOF, Method, ServerCall
from rpc.wire import (
    MAX_CALLS,
    MAX_PAYLOAD_BYTES,
    SERVICE_NAME,
    VERSION_METADATA,
    Log,
    SendQueue,
    decode_batch,
    parse_metadata,
)

SIDE: Final = "server"
LINGER_SECONDS: Final = 1.0  # the peer may take this long to end the stream after the server announced its drain

UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE.value[0]
UNIMPLEMENTED: Final = grpc.StatusCode.UNIMPLEMENTED.value[0]
INVALID_ARGUMENT: Final = grpc.StatusCode.INVALID_ARGUMENT.value[0]

# The gauges count these when they are scraped, which costs calls nothing.
OPEN_STREAMS: Final[set[ServerStream]] = set()
STREAMS.labels(SIDE).set_function(lambda: len(OPEN_STREAMS))
IN_FLIGHT.labels(SIDE).set_function(lambda: sum(len(stream.calls) for stream in OPEN_STREAMS))

_violations = VIOLATIONS.labels(SIDE)


class ExchangeServicer:
    """Serves `methods` (by full name) through `argosy.exchange.v1.Exchange/Open`."""

    def __init__(self, methods: Mapping[str, Method], log: Log) -> None:
        self._methods = methods
        self._log = log
        self._streams: dict[ServerStream, asyncio.Task[Any]] = {}
        self._draining = False

    def handler(self) -> Any:
        """Return the handler for a gRPC server. Batches are decoded here, so that a malformed one gets a status."""
        handlers: Any = {"Open": grpc.stream_stream_rpc_method_handler(self._open)}
        return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)

    async def drain(self) -> None:
        """Take no new calls; each stream ends with its last call. Waits a second for streams without calls to end."""
        self._draining = True
        for stream in self._streams:
            stream.drain()
        idle = [task for stream, task in self._streams.items() if not stream.calls]
        if idle:
            await asyncio.wait(idle, timeout=LINGER_SECONDS)

    async def _open(self, _requests: Any, context: Any) -> None:
        if VERSION_METADATA not in tuple(context.invocation_metadata() or ()):
            name, version = VERSION_METADATA
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"this peer speaks {name}: {version}, and no other version"
            )
        await context.send_initial_metadata((VERSION_METADATA,))
        stream = ServerStream(self._methods, self._log)
        self._streams[stream] = cast("asyncio.Task[Any]", asyncio.current_task())
        OPEN_STREAMS.add(stream)
        malformed = False
        try:
            if self._draining:
                stream.drain()
            await stream.run(context)
        except DecodeError:
            malformed = True
        finally:
            OPEN_STREAMS.discard(stream)
            del self._streams[stream]
        if malformed:  # outside of `except`, where the exception's traceback would keep the stream and its calls alive
            _violations.inc()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a batch of frames")


class ServerStream:
    """One stream of one peer."""

    def __init__(self, methods: Mapping[str, Method], log: Log) -> None:
        self._methods = methods
        self._log = log
        self._send_queue = SendQueue(SIDE)
        self.calls: dict[int, ServerCall] = {}
        self.deadlines = Deadlines()
        self._last_id = 0
        self._draining = False
        self._idle: asyncio.Future[None] | None = None

    def drain(self) -> None:
        """Announce that no new calls are taken, and end once the calls in flight have ended."""
        if not self._draining:
            self._draining = True
            self._send_queue.put(0, end=True)
        self._check_idle()

    async def run(self, context: Any) -> None:
        """Serve until the peer disconnects or either side has drained. Raises `DecodeError` for a malformed batch."""
        self._idle = asyncio.get_running_loop().create_future()
        writing = asyncio.create_task(self._send_queue.pump(context.write))
        reading = asyncio.create_task(self._read(context))
        try:
            self._check_idle()
            await asyncio.wait({writing, reading, self._idle}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done() and not reading.done():
                # Calls that the peer sent before it learned of the drain are refused, so that it retries them on
                # another replica; then it ends the stream.
                await asyncio.wait({writing, reading}, timeout=LINGER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
                self.drain()  # the peer sends nothing more; its calls in flight still get their responses
                await asyncio.wait({writing, self._idle}, return_when=asyncio.FIRST_COMPLETED)
            self._send_queue.close()
            with suppress(grpc.aio.BaseError, asyncio.InvalidStateError):
                await writing
        finally:
            reading.cancel()
            writing.cancel()
            self._send_queue.close()
            self.deadlines.close()
            for call in list(self.calls.values()):
                call.abandon()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(self, context: Any) -> None:
        with suppress(grpc.aio.BaseError):
            while (data := await context.read()) is not EOF:
                for frame in decode_batch(data):
                    self._receive(frame)

    def _receive(self, frame: Any) -> None:
        call_id = frame.call_id
        call = self.calls.get(call_id)
        if frame.method:
            if call is None and call_id > self._last_id:
                call = self._start_call(call_id, frame)
            else:
                self._violation(call_id, call, "a call was started twice, or out of order")
                return
        elif call is None:
            self._receive_without_call(call_id, frame)
            return
        if call is None:
            return
        for payload in frame.payloads:
            if len(payload) > MAX_PAYLOAD_BYTES:
                call.terminate(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"a request of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}",
                )
                return
            if not call.accept(payload):
                self._violation(call_id, call, "a payload after the end, or beyond the window")
                return
        if frame.credit:
            call.add_credit(frame.credit)
        if frame.cancel:
            call.abandon()
        elif frame.end:
            call.peer_done = True
            call.wake_reader()

    def _start_call(self, call_id: int, frame: Any) -> ServerCall | None:
        self._last_id = call_id
        if self._draining or len(self.calls) >= MAX_CALLS or self._send_queue.full:
            reason = "this replica is draining" if self._draining else "this replica is at capacity"
            self._send_queue.put(call_id, end=True, code=UNAVAILABLE, message=reason, refused=True)
            return None
        method = self._methods.get(frame.method)
        if method is None:
            self._send_queue.put(call_id, end=True, code=UNIMPLEMENTED, message="Method not found!")
            return None
        try:
            metadata = parse_metadata(frame.metadata)
        except ValueError:
            self._violation(call_id, None, "the metadata is malformed")
            return None
        call = ServerCall(call_id, self._send_queue, method, metadata, self)
        timeout_microseconds = frame.timeout_microseconds
        if timeout_microseconds:
            call.set_deadline(timeout_microseconds / 1e6)
        self.calls[call_id] = call
        call.start()
        return call

    def _violation(self, call_id: int, call: ServerCall | None, reason: str) -> None:
        """End the call whose frame violates the protocol; the others go on."""
        _violations.inc()
        self._log.warning("exchange_violation", call_id=call_id, reason=reason)
        if call is not None:
            call.terminate(grpc.StatusCode.INVALID_ARGUMENT, reason)
        elif call_id != 0:
            self._send_queue.put(call_id, end=True, code=INVALID_ARGUMENT, message=reason)

    def _receive_without_call(self, call_id: int, frame: Any) -> None:
        if call_id == 0 and frame.end:
            self.drain()
        elif call_id == 0 or call_id > self._last_id:
            self._violation(call_id, None, "no call has this id")
        # Otherwise the call has ended here while the peer's frame was on its way.

    def remove(self, call: ServerCall) -> None:
        """Remove a call that has ended and whose method has returned."""
        self.calls.pop(call.call_id, None)
        if self._draining:
            self._check_idle()

    def _check_idle(self) -> None:
        if self._draining and not self.calls and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
