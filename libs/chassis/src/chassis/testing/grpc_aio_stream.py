"""A call with a stream in it, and what it needs of its channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc

from chassis.errors import ArgosyError
from chassis.grpc.sending import one_by_one, sent
from chassis.grpc.status import never_sent

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


class StreamCall:
    """A call with a stream in it: iterate or `read` the responses, `write` the requests, or await the one response.

    When no connection is open it begins as soon as there is one. A call whose iteration is left early is cancelled when
    the iterator is closed.
    """

    __slots__ = ("_arguments", "_broken", "_call", "_invoke", "_left", "_line", "_opening", "_pump", "_reopened")

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
        self._arguments = (() if streams else (requests,), line.metadata(metadata))
        self._call: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._reopened = False
        if line.ready:
            self._begin()
        else:
            self._open()
        self._broken: Exception | None = None
        self._pump = asyncio.create_task(self._send(requests)) if streams and requests is not None else None

    def _begin(self) -> None:
        request, metadata = self._arguments
        self._call = self._invoke(*request, timeout=self._left, metadata=metadata)

    def _open(self) -> None:
        self._call = None
        self._opening = asyncio.create_task(self._begin_when_ready())
        self._opening.add_done_callback(_heard)

    async def _begin_when_ready(self) -> None:
        self._left -= await self._line.await_ready(self._left)
        self._begin()

    async def _opened(self) -> Any:
        if self._call is None and self._opening is not None:
            await self._opening
        return self._call

    async def _use(self, operation: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do something with the call; begin it again, once, when it turns out that it never left."""
        while True:
            call = self._call
            try:
                call = call or await self._opened()
                return await operation(call)
            except asyncio.CancelledError as error:
                raise self._ended(error) from error
            except grpc.aio.AioRpcError as error:
                if self._call is not call:
                    continue
                if self._reopened or not never_sent(error):
                    raise self._ended(error) from error
                self._reopened = True
                self._open()

    async def _send(self, requests: Any) -> None:
        try:
            async for request in one_by_one(requests):
                if not await sent(self.write(request)):
                    return
            await sent(self.done_writing())
        except Exception as error:  # noqa: BLE001 - the requests' own; whoever reads the responses is told
            self._broken = error
            self._drop()

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        response = await self._use(_read)
        if response is EOF:
            self._stop_sending()
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
            raise self._ended(error) from error
        finally:
            self.cancel()

    def __await__(self) -> Any:
        return self._response().__await__()

    async def _response(self) -> Any:
        response = await self._use(_response)
        self._stop_sending()
        return response

    async def write(self, request: Any) -> None:
        """Send one more request. Without effect when the peer has already ended the call well: nobody needs it."""
        try:
            await self._use(lambda call: call.write(request))
        except asyncio.InvalidStateError:
            if not self._call.done():
                raise
            await self._raise_unless_ended_well(self._call)

    async def done_writing(self) -> None:
        """Say that no more requests come."""
        await self._use(lambda call: call.done_writing())

    def cancel(self) -> bool:
        """Give the call up; say whether there was something to give up."""
        self._stop_sending()
        return self._drop()

    def _drop(self) -> bool:
        if self._call is not None:
            return bool(self._call.cancel())
        return self._opening is not None and self._opening.cancel()

    def _stop_sending(self) -> None:
        if self._pump is not None:
            self._pump.cancel()

    async def _raise_unless_ended_well(self, call: Any) -> None:
        code = await call.code()
        if code is grpc.StatusCode.OK:
            return
        details, trailing = await call.details(), await call.trailing_metadata()
        raise self._line.failure(grpc.aio.AioRpcError(code, None, trailing, details))

    def _ended(self, error: BaseException) -> BaseException:
        if self._pump is not asyncio.current_task():
            self._stop_sending()
        if self._broken is not None:
            return self._broken
        return self._line.failure(error) if isinstance(error, grpc.aio.AioRpcError) else error


def _read(call: Any) -> Any:
    return call.read()


async def _response(call: Any) -> Any:
    return await call


def _heard(opening: asyncio.Task[Any]) -> None:
    # A call that could not begin and that nobody used needs no complaint.
    if not opening.cancelled():
        opening.exception()
