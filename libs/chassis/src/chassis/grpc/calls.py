"""Calls as a channel makes them: one class per shape, with the faces that generated stubs promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc

from chassis.errors import ArgosyError

EOF = grpc.aio.EOF


class Line(Protocol):
    """What a call needs of its channel."""

    timeout_seconds: float
    stream_timeout_seconds: float

    @property
    def ready(self) -> bool:
        """Whether a connection is open."""

    async def await_ready(self, limit_seconds: float) -> float:
        """Wait for a connection, within limits; return the seconds it took or raise `Unavailable`."""

    def metadata(self, extra: Any) -> Any:
        """Return what a call made now must carry."""

    def failure(self, error: grpc.aio.AioRpcError) -> ArgosyError:
        """Return what gRPC's error means."""


class UnaryUnary:
    """Calls a method with one request and one response; of gRPC's options it knows `timeout` and `metadata`."""

    __slots__ = ("_invoke", "_line")

    def __init__(self, line: Line, invoke: Any) -> None:
        self._line = line
        self._invoke = invoke

    async def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        """Call; `timeout` in seconds. Await the response."""
        line = self._line
        left = line.timeout_seconds if timeout is None else timeout
        carried = line.metadata(metadata)
        if not line.ready:
            left -= await line.await_ready(left)
        try:
            return await self._invoke(request, timeout=left, metadata=carried)
        except grpc.aio.AioRpcError as error:
            raise line.failure(error) from error


class StreamUnary:
    """Calls a method with a stream of requests and one response."""

    __slots__ = ("_invoke", "_line")

    def __init__(self, line: Line, invoke: Any) -> None:
        self._line = line
        self._invoke = invoke

    def __call__(
        self, requests: Any = None, *, timeout: float | None = None, metadata: Any = None, **_: Any
    ) -> StreamCall:
        """Call; `timeout` in seconds."""
        return StreamCall(self._line, self._invoke, requests, timeout, metadata, streams=True)


class UnaryStream:
    """Calls a method with one request and a stream of responses."""

    __slots__ = ("_invoke", "_line")

    def __init__(self, line: Line, invoke: Any) -> None:
        self._line = line
        self._invoke = invoke

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> StreamCall:
        """Call; `timeout` in seconds."""
        return StreamCall(self._line, self._invoke, request, timeout, metadata, streams=False)


class StreamStream(StreamUnary):
    """Calls a method with a stream each way."""

    __slots__ = ()


class StreamCall:
    """A call with a stream in it: iterate or `read` the responses, `write` the requests, or await the one response.

    When no connection is open it begins as soon as there is one. A call whose iteration is left early is cancelled when
    the iterator is closed.
    """

    __slots__ = ("_arguments", "_broken", "_call", "_invoke", "_left", "_line", "_opening")

    def __init__(
        self,
        line: Line,
        invoke: Callable[..., Any],
        requests: Any,
        timeout: float | None,
        metadata: Any,
        *,
        streams: bool,
    ) -> None:
        self._line = line
        self._invoke = invoke
        self._left = line.stream_timeout_seconds if timeout is None else timeout
        self._broken: Exception | None = None
        given = self._guarded(requests) if streams and hasattr(requests, "__aiter__") else requests
        self._arguments = (given, line.metadata(metadata))
        self._call: Any = None
        self._opening: asyncio.Task[Any] | None = None
        if line.ready:
            self._begin()
        else:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_heard)

    def _begin(self) -> None:
        requests, metadata = self._arguments
        self._call = self._invoke(requests, timeout=self._left, metadata=metadata)

    async def _open(self) -> None:
        self._left -= await self._line.await_ready(self._left)
        self._begin()

    async def _opened(self) -> Any:
        if self._opening is not None:
            await self._opening
        return self._call

    async def _guarded(self, requests: Any) -> AsyncIterator[Any]:
        # gRPC answers a broken iterator by a bare cancel; keep the reason for whoever reads the responses.
        try:
            async for request in requests:
                yield request
        except Exception as error:
            self._broken = error
            raise

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        call = self._call or await self._opened()
        try:
            return await call.read()
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._reason(error) from error

    async def __aiter__(self) -> AsyncIterator[Any]:
        call = self._call or await self._opened()
        read = call.read
        try:
            while (response := await read()) is not EOF:
                yield response
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._reason(error) from error
        finally:
            call.cancel()

    def __await__(self) -> Any:
        return self._response().__await__()

    async def _response(self) -> Any:
        call = self._call or await self._opened()
        try:
            return await call
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._reason(error) from error

    async def write(self, request: Any) -> None:
        """Send one more request. Without effect when the peer has already ended the call well: nobody needs it."""
        call = self._call or await self._opened()
        try:
            await call.write(request)
        except asyncio.InvalidStateError:
            if not call.done():
                raise
            await self._raise_unless_ended_well(call)
        except grpc.aio.AioRpcError as error:
            raise self._line.failure(error) from error

    async def done_writing(self) -> None:
        """Say that no more requests come."""
        call = self._call or await self._opened()
        await call.done_writing()

    def cancel(self) -> bool:
        """Give the call up; say whether there was something to give up."""
        if self._call is not None:
            return bool(self._call.cancel())
        return self._opening is not None and self._opening.cancel()

    async def _raise_unless_ended_well(self, call: Any) -> None:
        code = await call.code()
        if code is grpc.StatusCode.OK:
            return
        details, trailing = await call.details(), await call.trailing_metadata()
        raise self._line.failure(grpc.aio.AioRpcError(code, None, trailing, details))

    def _reason(self, error: BaseException) -> BaseException:
        if self._broken is not None:
            return self._broken
        return self._line.failure(error) if isinstance(error, grpc.aio.AioRpcError) else error


def _heard(opening: asyncio.Task[Any]) -> None:
    # A call that could not begin and that nobody used needs no complaint.
    if not opening.cancelled():
        opening.exception()
