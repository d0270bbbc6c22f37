"""A streamed call of `GrpcAioChannel`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc
from rpc.request_writer import iterate, try_send

from chassis.errors import ArgosyError
from chassis.grpc.status import never_sent

EOF = grpc.aio.EOF


class ChannelProtocol(Protocol):
    """The channel, as a call sees it."""

    timeout_seconds: float
    stream_timeout_seconds: float

    @property
    def ready(self) -> bool:
        """Whether a connection is open."""

    async def await_ready(self, max_seconds: float) -> float:
        """Wait for a connection; return the seconds it took or raise `Unavailable`."""

    def metadata(self, extra: Any) -> Any:
        """Return the metadata of a call made now, with `extra`."""

    def to_error(self, error: grpc.aio.AioRpcError) -> ArgosyError:
        """Convert gRPC's exception."""


class StreamCall:
    """A call with a stream: iterate or `read` the responses, `write` the requests, or await the single response.

    Without an open connection it starts once there is one. Closing the iterator early cancels the call.
    """

    __slots__ = (
        "_arguments",
        "_call",
        "_channel",
        "_invoke",
        "_opening",
        "_remaining",
        "_request_error",
        "_retried",
        "_writer",
    )

    def __init__(
        self,
        channel: ChannelProtocol,
        invoke: Callable[..., Any],
        requests: Any,
        timeout: float | None,
        metadata: Any,
        *,
        request_streaming: bool,
    ) -> None:
        self._channel = channel
        self._invoke = invoke
        self._remaining = channel.stream_timeout_seconds if timeout is None else timeout
        self._arguments = (() if request_streaming else (requests,), channel.metadata(metadata))
        self._call: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._retried = False
        if channel.ready:
            self._start()
        else:
            self._open()
        self._request_error: Exception | None = None
        self._writer = asyncio.create_task(self._send(requests)) if request_streaming and requests is not None else None

    def _start(self) -> None:
        request, metadata = self._arguments
        self._call = self._invoke(*request, timeout=self._remaining, metadata=metadata)

    def _open(self) -> None:
        self._call = None
        self._opening = asyncio.create_task(self._start_when_ready())
        self._opening.add_done_callback(_retrieve_exception)

    async def _start_when_ready(self) -> None:
        self._remaining -= await self._channel.await_ready(self._remaining)
        self._start()

    async def _opened(self) -> Any:
        if self._call is None and self._opening is not None:
            await self._opening
        return self._call

    async def _use(self, operation: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run an operation on the call; retry the call once if it certainly was not sent."""
        while True:
            call = self._call
            try:
                call = call or await self._opened()
                return await operation(call)
            except asyncio.CancelledError as error:
                raise self._to_exception(error) from error
            except grpc.aio.AioRpcError as error:
                if self._call is not call:
                    continue
                if self._retried or not never_sent(error):
                    raise self._to_exception(error) from error
                self._retried = True
                self._open()

    async def _send(self, requests: Any) -> None:
        try:
            async for request in iterate(requests):
                if not await try_send(self.write(request), ArgosyError):
                    return
            await try_send(self.done_writing(), ArgosyError)
        except Exception as error:  # noqa: BLE001 - raised by the iterator; the reader of the responses gets it
            self._request_error = error
            self._cancel_call()

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        response = await self._use(_read)
        if response is EOF:
            self._stop_writing()
        return response

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            response = await self.read()
            if response is EOF:
                return
            yield response
            read = self._call.read
            while (response := await read()) is not EOF:
                yield response
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._to_exception(error) from error
        finally:
            self.cancel()

    def __await__(self) -> Any:
        return self._response().__await__()

    async def _response(self) -> Any:
        response = await self._use(_response)
        self._stop_writing()
        return response

    async def write(self, request: Any) -> None:
        """Send one more request. Does nothing when the peer has already ended the call with OK."""
        try:
            await self._use(lambda call: call.write(request))
        except asyncio.InvalidStateError:
            if not self._call.done():
                raise
            await self._raise_unless_ok(self._call)

    async def done_writing(self) -> None:
        """Half-close: there are no more requests."""
        await self._use(lambda call: call.done_writing())

    def cancel(self) -> bool:
        """Cancel the call; returns whether it was running."""
        self._stop_writing()
        return self._cancel_call()

    def _cancel_call(self) -> bool:
        if self._call is not None:
            return bool(self._call.cancel())
        return self._opening is not None and self._opening.cancel()

    def _stop_writing(self) -> None:
        if self._writer is not None:
            self._writer.cancel()

    async def _raise_unless_ok(self, call: Any) -> None:
        code = await call.code()
        if code is grpc.StatusCode.OK:
            return
        details, trailing = await call.details(), await call.trailing_metadata()
        raise self._channel.to_error(grpc.aio.AioRpcError(code, None, trailing, details))

    def _to_exception(self, error: BaseException) -> BaseException:
        if self._writer is not asyncio.current_task():
            self._stop_writing()
        if self._request_error is not None:
            return self._request_error
        return self._channel.to_error(error) if isinstance(error, grpc.aio.AioRpcError) else error


def _read(call: Any) -> Any:
    return call.read()


async def _response(call: Any) -> Any:
    return await call


def _retrieve_exception(opening: asyncio.Task[Any]) -> None:
    # Otherwise asyncio would warn about a call that could not start and was never used.
    if not opening.cancelled():
        opening.exception()
