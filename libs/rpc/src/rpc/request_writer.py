"""A call whose requests come from an iterator: a task writes them while the caller reads the responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from rpc.client_call import EOF, ClientCall

T = TypeVar("T")


async def iterate(requests: Any) -> AsyncIterator[Any]:
    """Iterate over requests, whether their iterator is asynchronous or not."""
    if hasattr(requests, "__aiter__"):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


async def try_send(sending: Awaitable[None], error_type: type[Exception]) -> bool:
    """Await a write. False if the call has failed: its reader gets the error."""
    try:
        await sending
    except error_type:
        return False
    return True


class RequestWriter:
    """Writes an iterator's requests to a call. When the iterator raises, the reader of the responses gets its error."""

    __slots__ = ("_call", "_request_error", "_task")

    def __init__(self, call: ClientCall, requests: Any) -> None:
        self._call = call
        self._request_error: Exception | None = None
        self._task = asyncio.create_task(self._send(requests))

    async def _send(self, requests: Any) -> None:
        call, error_type = self._call, self._call.error_type
        try:
            async for request in iterate(requests):
                if call.ended or not await try_send(call.write(request), error_type):
                    return
            await try_send(call.done_writing(), error_type)
        except Exception as error:  # noqa: BLE001 - raised by the iterator; the reader of the responses gets it
            self._request_error = error
            call.cancel()

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        response = await self._await_response(self._call.read())
        if response is EOF:
            self._task.cancel()
        return response

    async def write(self, request: Any) -> None:
        """Send one more request besides the iterator's."""
        await self._call.write(request)

    async def done_writing(self) -> None:
        """Half-close: there are no more requests."""
        await self._call.done_writing()

    def cancel(self) -> bool:
        """Cancel the call; returns whether it was running."""
        self._task.cancel()
        return self._call.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            while (response := await self.read()) is not EOF:
                yield response
        finally:
            self.cancel()

    def __await__(self) -> Any:
        return self._response().__await__()

    async def _response(self) -> Any:
        response = await self._await_response(self._call.response())
        self._task.cancel()
        return response

    async def _await_response(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except BaseException as error:
            self._task.cancel()
            if self._request_error is not None and isinstance(error, self._call.error_type):
                raise self._request_error from error
            raise
