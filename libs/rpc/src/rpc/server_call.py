"""A call as its servicer sees it: the face of gRPC's own context, as far as the pipeline and servicers use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn, Protocol

import grpc

from chassis.grpc.exchange.deadlines import Deadlines
from chassis.grpc.exchange.party import Party
from chassis.grpc.exchange.wire import MORE_BYTES, PAYLOAD_BYTES, Outbox, Status, flat

EOF = grpc.aio.EOF
CANCELLED = grpc.StatusCode.CANCELLED.value[0]
INTERNAL = grpc.StatusCode.INTERNAL.value[0]
TOO_LARGE = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


class Method(Protocol):
    """What the exchange needs of a method of a servicer."""

    request_streaming: bool
    response_streaming: bool
    decode_streamed: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]

    async def run(self, request: Any, context: Any) -> Any:
        """Answer one call: with a message, or by writing to the context when responses stream."""


class Keeper(Protocol):
    """What a call needs of its stream."""

    deadlines: Deadlines

    def forget(self, call: Answering) -> None:
        """Hear that the call is over, and its method too."""


class Answering(Party):
    """One call that is being answered."""

    over = False
    """The peer knows how it ended, or does not care any more."""
    task: asyncio.Task[None] | None = None
    _trailing: tuple[tuple[str, Any], ...] = ()
    _due: float | None = None
    _slot = 0

    def __init__(
        self,
        call_id: int,
        outbox: Outbox,
        method: Method,
        metadata: tuple[tuple[str, Any], ...],
        stream: Keeper,
    ) -> None:
        super().__init__(call_id, outbox, stream.deadlines.loop)
        self._method = method
        self._metadata = metadata
        self._stream = stream

    def limit(self, seconds: float) -> None:
        """Give it so many seconds, from now on."""
        self._due = self._loop.time() + seconds
        self._slot = self._stream.deadlines.add(self, self._due, seconds)

    def begin(self) -> None:
        """Run the method in a task of its own."""
        self.task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        method = self._method
        try:
            request = self._requests() if method.request_streaming else await self._single()
            answer = await method.run(request, self)
            if method.response_streaming:
                self._succeed(None)
            else:
                payload = method.encode(answer)
                while self.outbox.full and not self.over:
                    await self.may_send_again()
                self._succeed(payload)
        except grpc.aio.AbortError:
            pass  # `abort` has ended it
        except asyncio.CancelledError:
            self.end(CANCELLED, "the call was given up")
        finally:
            if not self.over:
                self.end(INTERNAL, "internal error")
            self._finish()

    def _finish(self, _task: object = None) -> None:
        if self._slot:
            self._stream.deadlines.remove(self, self._slot)
        self._stream.forget(self)

    async def _single(self) -> bytes:
        request = await self.take()
        if request is None:
            await self.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call has no request")
        return request

    async def _requests(self) -> AsyncIterator[Any]:
        decode = self._method.decode_streamed
        while (payload := await self.take()) is not None:
            yield decode(payload)

    def _succeed(self, payload: bytes | None) -> None:
        if self.over or (payload is not None and not self._fits(payload)):
            return
        self.over = True
        if self._trailing:
            self.outbox.put(self.call_id, payload, end=True, metadata=flat(self._trailing))
        else:
            self.outbox.put(self.call_id, payload, end=True)

    def end(self, code: int, message: str = "", details: bytes = b"", *, refused: bool = False) -> None:
        """Tell the peer how it ended, once."""
        if self.over:
            return
        self.over = True
        self.release()
        self.outbox.put(
            self.call_id,
            end=True,
            code=code,
            message=message,
            details=details,
            refused=refused,
            metadata=flat(self._trailing),
        )

    def stop(self, code: grpc.StatusCode, message: str) -> None:
        """End it from outside, and its method with it."""
        self.end(code.value[0], message)
        self._cancel()

    def abandon(self) -> None:
        """The peer is gone, or wants no more: nobody needs to be told."""
        self.over = True
        self.release()
        self._cancel()

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
            # A task that is cancelled before its first step never gets to its `finally`.
            self.task.add_done_callback(self._finish)

    def expire(self) -> None:
        """End it: the time is up."""
        self.stop(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _fits(self, payload: bytes) -> bool:
        if len(payload) <= PAYLOAD_BYTES:
            return True
        self.end(TOO_LARGE, f"a response of {len(payload)} bytes is over the limit of {PAYLOAD_BYTES}")
        return False

    # From here on: the context, under gRPC's names.

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        """Return what the caller sent along."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return the seconds that are left, perhaps 0; None where there is no limit."""
        return None if self._due is None else max(0.0, self._due - self._loop.time())

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[tuple[str, Any], ...] = ()
    ) -> NoReturn:
        """End the call with a status; raises, so that nothing comes after it."""
        status = Status(code.value[0], details)
        found = dict(trailing_metadata)
        packed = found.pop("grpc-status-details-bin", b"")
        self._trailing += tuple(found.items())
        self.end(status.code, status.message, packed)
        raise grpc.aio.AbortError

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, Any], ...]) -> None:
        """Send this along with the status."""
        self._trailing = tuple(trailing_metadata)

    async def write(self, message: Any) -> None:
        """Send a response; waits while the peer, or the stream to it, is behind."""
        payload = self._method.encode(message)
        self._fits(payload)
        while not self.may_send and not self.over:
            await self.may_send_again()
        if self.over:
            raise grpc.aio.AbortError
        self._allowance -= len(payload) + MORE_BYTES
        self.outbox.put(self.call_id, payload)

    async def read(self) -> Any:
        """Return the next request, or EOF."""
        payload = await self.take()
        return EOF if payload is None else self._method.decode_streamed(payload)

    def cancelled(self) -> bool:
        """Whether the call is over for the peer, whatever its method still does."""
        return self.over
