"""The server side of a call, with the interface of gRPC's context as far as the pipeline and servicers use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn, Protocol

import grpc

from rpc.flow_control import Deadlines, FlowControl
from rpc.wire import MAX_PAYLOAD_BYTES, PAYLOAD_OVERHEAD_BYTES, SendQueue, flatten_metadata

EOF = grpc.aio.EOF
CANCELLED = grpc.StatusCode.CANCELLED.value[0]
INTERNAL = grpc.StatusCode.INTERNAL.value[0]
TOO_LARGE = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


class Method(Protocol):
    """A servicer's method, as the host registers it."""

    request_streaming: bool
    response_streaming: bool
    decode_streamed: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]

    async def run(self, request: Any, context: Any) -> Any:
        """Handle one call: return the response, or write responses to the context when they are streamed."""


class ServerCallRegistry(Protocol):
    """The stream that a call belongs to."""

    deadlines: Deadlines

    def remove(self, call: ServerCall) -> None:
        """Remove a call that has ended and whose method has returned."""


class ServerCall(FlowControl):
    """One call that a servicer handles."""

    ended = False
    """The peer has the status of the call, or no longer wants it."""
    task: asyncio.Task[None] | None = None
    _trailing_metadata: tuple[tuple[str, Any], ...] = ()
    _deadline: float | None = None
    _deadline_bucket = 0

    def __init__(
        self,
        call_id: int,
        send_queue: SendQueue,
        method: Method,
        metadata: tuple[tuple[str, Any], ...],
        registry: ServerCallRegistry,
    ) -> None:
        super().__init__(call_id, send_queue, registry.deadlines.loop)
        self._method = method
        self._metadata = metadata
        self._registry = registry

    def set_deadline(self, seconds: float) -> None:
        """End the call with DEADLINE_EXCEEDED in `seconds` from now."""
        self._deadline = self._loop.time() + seconds
        self._deadline_bucket = self._registry.deadlines.add(self, self._deadline, seconds)

    def start(self) -> None:
        """Run the method in a task of its own."""
        self.task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        method = self._method
        try:
            request = self._request_stream() if method.request_streaming else await self._single_request()
            response = await method.run(request, self)
            if method.response_streaming:
                self._succeed(None)
            else:
                payload = method.encode(response)
                while self.send_queue.full and not self.ended:
                    await self.wait_to_send()
                self._succeed(payload)
        except grpc.aio.AbortError:
            pass  # `abort` has ended the call
        except asyncio.CancelledError:
            self.end(CANCELLED, "the call was cancelled")
        finally:
            if not self.ended:
                self.end(INTERNAL, "internal error")
            self._finish()

    def _finish(self, _task: object = None) -> None:
        if self._deadline_bucket:
            self._registry.deadlines.remove(self, self._deadline_bucket)
        self._registry.remove(self)

    async def _single_request(self) -> bytes:
        request = await self.next_payload()
        if request is None:
            await self.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call has no request")
        return request

    async def _request_stream(self) -> AsyncIterator[Any]:
        decode = self._method.decode_streamed
        while (payload := await self.next_payload()) is not None:
            yield decode(payload)

    def _succeed(self, payload: bytes | None) -> None:
        if self.ended or (payload is not None and not self._check_size(payload)):
            return
        self.ended = True
        if self._trailing_metadata:
            metadata = flatten_metadata(self._trailing_metadata)
            self.send_queue.put(self.call_id, payload, end=True, metadata=metadata)
        else:
            self.send_queue.put(self.call_id, payload, end=True)

    def end(self, code: int, message: str = "", details: bytes = b"") -> None:
        """Send the status of the call; only the first has an effect."""
        if self.ended:
            return
        self.ended = True
        self.wake_both()
        self.send_queue.put(
            self.call_id,
            end=True,
            code=code,
            message=message,
            details=details,
            metadata=flatten_metadata(self._trailing_metadata),
        )

    def terminate(self, code: grpc.StatusCode, message: str) -> None:
        """End the call with a status and cancel its method."""
        self.end(code.value[0], message)
        self._cancel()

    def abandon(self) -> None:
        """End the call without a status, because the peer has disconnected or cancelled it."""
        self.ended = True
        self.wake_both()
        self._cancel()

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
            # A task that is cancelled before its first step never reaches its `finally`.
            self.task.add_done_callback(self._finish)

    def expire(self) -> None:
        """End the call, because its deadline has passed."""
        self.terminate(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _check_size(self, payload: bytes) -> bool:
        if len(payload) <= MAX_PAYLOAD_BYTES:
            return True
        self.end(TOO_LARGE, f"a response of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
        return False

    # From here on: the methods of gRPC's context.

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        """Return the caller's metadata."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline, at least 0; None without a deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[tuple[str, Any], ...] = ()
    ) -> NoReturn:
        """End the call with a status and raise `AbortError`."""
        trailing = dict(trailing_metadata)
        status_details = trailing.pop("grpc-status-details-bin", b"")
        self._trailing_metadata += tuple(trailing.items())
        self.end(code.value[0], details, status_details)
        raise grpc.aio.AbortError

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, Any], ...]) -> None:
        """Send this metadata with the status."""
        self._trailing_metadata = tuple(trailing_metadata)

    async def write(self, message: Any) -> None:
        """Send a response; waits while the peer's window is closed or the stream's send queue is full."""
        payload = self._method.encode(message)
        self._check_size(payload)
        while not self.can_send and not self.ended:
            await self.wait_to_send()
        if self.ended:
            raise grpc.aio.AbortError
        self._send_window -= len(payload) + PAYLOAD_OVERHEAD_BYTES
        self.send_queue.put(self.call_id, payload)

    async def read(self) -> Any:
        """Return the next request, or EOF."""
        payload = await self.next_payload()
        return EOF if payload is None else self._method.decode_streamed(payload)

    def cancelled(self) -> bool:
        """Whether the call has ended for the peer, even if its method still runs."""
        return self.ended
