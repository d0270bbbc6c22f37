"""The client side of a call: read, write, iterate, await or cancel it like one of gRPC's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc

from rpc.flow_control import Deadlines, FlowControl
from rpc.wire import MAX_PAYLOAD_BYTES, PAYLOAD_OVERHEAD_BYTES, SendQueue, Status

EOF = grpc.aio.EOF
MAX_REFUSALS = 3  # by that many replicas; then the call fails

CANCELLED = Status(grpc.StatusCode.CANCELLED.value[0], "the call was cancelled")
NOT_CONNECTED = Status(grpc.StatusCode.UNAVAILABLE.value[0], "no connection in time")
STREAM_LOST = Status(grpc.StatusCode.UNAVAILABLE.value[0], "the stream was lost")
NO_RESPONSE = Status(grpc.StatusCode.INTERNAL.value[0], "the call ended without a response")
DEADLINE_EXCEEDED = Status(grpc.StatusCode.DEADLINE_EXCEEDED.value[0], "Deadline Exceeded")
TOO_LARGE = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
OK = grpc.StatusCode.OK.value[0]


class ClientCallRegistry(Protocol):
    """The channel, as its calls see it."""

    deadlines: Deadlines
    error_type: type[Exception]

    def assign(self, call: ClientCall) -> None:
        """Start the call on the least loaded stream, or once one opens; fail it when none opens in time."""

    def unassign(self, call: ClientCall) -> None:
        """Remove the call from its stream, because it has ended or is retried."""

    def to_error(self, status: Status) -> Exception:
        """Make the exception for a status, an `error_type`."""


class ClientCall(FlowControl):
    """One call. Until the peer's first frame arrives it keeps what it sent, so that it can be retried."""

    stream: Any = None
    first_batch = 0
    """Number of the batch with the call's first frame: once that batch is written, the peer may have acted on it."""
    refusals = 0
    _status: Status | None = None

    def __init__(
        self,
        registry: ClientCallRegistry,
        method: str,
        codec: tuple[Callable[[Any], bytes], Callable[[bytes], Any]],
        seconds: float,
        metadata: list[str],
        *,
        idempotent: bool,
    ) -> None:
        """`codec` encodes requests and decodes responses; `seconds` is the time until the deadline."""
        super().__init__(0, UNASSIGNED, registry.deadlines.loop)
        self._registry = registry
        self.method = method
        self._encode, self._decode = codec
        self.metadata = metadata
        self.idempotent = idempotent
        self._replay: list[tuple[bytes | None, bool]] | None = []
        self._deadline = self._loop.time() + seconds
        self._deadline_bucket = registry.deadlines.add(self, self._deadline, seconds)

    # Sending.

    def start(self, call_id: int, send_queue: SendQueue) -> None:
        """Send what was written so far, under the call's id on a stream."""
        self.call_id, self.send_queue = call_id, send_queue
        self.wake_writer()  # it may wait for the call to be assigned
        remaining = max(1, int((self._deadline - self._loop.time()) * 1e6))
        # What is put in this turn joins the same frame.
        send_queue.put(call_id, method=self.method, timeout_microseconds=remaining, metadata=self.metadata)
        self.first_batch = send_queue.open_batch
        for payload, end in self._replay or ():
            self._put(payload, end)

    def send(self, payload: bytes | None, *, end: bool = False) -> None:
        """Send without waiting for the window. A call that is not assigned yet keeps it until it is."""
        if payload is not None:
            self._send_window -= len(payload) + PAYLOAD_OVERHEAD_BYTES
        if self._replay is not None:
            self._replay.append((payload, end))
        if self.stream is not None:
            self._put(payload, end)

    def _put(self, payload: bytes | None, end: bool) -> None:
        if end:
            self.send_queue.put(self.call_id, payload, end=True)
        else:
            self.send_queue.put(self.call_id, payload)

    def encode(self, request: Any) -> bytes:
        """Serialize a request. One over the size limit ends the call, as in gRPC, and raises its error."""
        try:
            payload = self._encode(request)
        except Exception:
            self._give_up(CANCELLED)
            raise
        if len(payload) > MAX_PAYLOAD_BYTES:
            message = f"a request of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}"
            self._give_up(Status(TOO_LARGE, message))
            self._raise_unless_ok()
        return payload

    # Receiving.

    def receive(self, frame: Any) -> bool:
        """Handle a frame of the peer. False if it violates the protocol."""
        if frame.refused and self._replay is not None and self.refusals < MAX_REFUSALS:
            self.refusals += 1
            self._registry.unassign(self)
            self._registry.assign(self)
            return True
        self._replay = None
        for payload in frame.payloads:
            if not self.accept(payload):
                return False
        if frame.credit:
            self.add_credit(frame.credit)
        if frame.end:
            self.finish(Status(frame.code, frame.message, frame.details, tuple(frame.metadata)))
        return True

    def stream_lost(self, written_batches: int) -> None:
        """Retry on another stream if the call cannot take effect twice: it was not written, or is idempotent."""
        self._registry.unassign(self)
        unsent = self.first_batch > written_batches
        if self._replay is not None and (unsent or self.idempotent):
            self._registry.assign(self)
        else:
            self.finish(STREAM_LOST)

    def finish(self, status: Status) -> None:
        """End the call; only the first status counts."""
        if self._status is not None:
            return
        self._status = status
        self._replay = None
        self.peer_done = True
        self._registry.deadlines.remove(self, self._deadline_bucket)
        self._registry.unassign(self)
        self.wake_both()

    def expire(self) -> None:
        """End the call, because its deadline has passed."""
        self._give_up(NOT_CONNECTED if self.stream is None else DEADLINE_EXCEEDED)

    def _give_up(self, status: Status) -> None:
        if self._status is None:
            if self.stream is not None:
                self.send_queue.put(self.call_id, cancel=True)
            self.finish(status)
            self.discard_received()

    # The interface of gRPC's calls.

    async def read_bytes(self) -> bytes | None:
        """Wait for the next payload; None after the last. Raises the call's error."""
        try:
            payload = await self.next_payload()
        except asyncio.CancelledError:
            self._give_up(CANCELLED)
            raise
        if payload is None:
            self._raise_unless_ok()
        return payload

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        payload = await self.read_bytes()
        return EOF if payload is None else self._decode(payload)

    async def response(self) -> Any:
        """Return the response of a call that has a single one."""
        payload = await self.read_bytes()
        if payload is None:
            raise self._registry.to_error(NO_RESPONSE)
        if not self.peer_done:
            # The response counts only with its status, which nearly always arrives in the same frame.
            await self.read_bytes()
        self._raise_unless_ok()
        return self._decode(payload)

    async def write(self, request: Any) -> None:
        """Send one more request. Does nothing when the peer has already ended the call with OK."""
        payload = self.encode(request)
        while self._status is None and not (self.can_send and self.stream is not None):
            await self.wait_to_send()
        if self._status is None:
            self.send(payload)
        else:
            self._raise_unless_ok()

    async def done_writing(self) -> None:
        """Half-close: there are no more requests."""
        if self._status is None:
            self.send(None, end=True)

    @property
    def ended(self) -> bool:
        return self._status is not None

    @property
    def error_type(self) -> type[Exception]:
        """The type of the errors that the call ends with."""
        return self._registry.error_type

    def cancel(self) -> bool:
        """Cancel the call; returns whether it was running."""
        running = self._status is None
        self._give_up(CANCELLED)
        return running

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            while (payload := await self.read_bytes()) is not None:
                yield self._decode(payload)
        finally:
            self.cancel()

    def __await__(self) -> Any:
        return self.response().__await__()

    def _raise_unless_ok(self) -> None:
        if self._status is not None and self._status.code != OK:
            raise self._registry.to_error(self._status)


UNASSIGNED = SendQueue("client")
"""Placeholder until a call is assigned to a stream; nothing is put into it."""
