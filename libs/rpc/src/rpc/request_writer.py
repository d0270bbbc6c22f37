"""A call whose requests come from an iterator: they are sent as they come, while the responses are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from chassis.errors import ArgosyError
from chassis.grpc.exchange.calling import EOF, Call
from chassis.grpc.sending import one_by_one, sent

T = TypeVar("T")


class Sending:
    """A call with somebody who sends its requests. What breaks the requests is what the reader sees."""

    __slots__ = ("_broken", "_call", "_sender")

    def __init__(self, call: Call, requests: Any) -> None:
        self._call = call
        self._broken: Exception | None = None
        self._sender = asyncio.create_task(self._send(requests))

    async def _send(self, requests: Any) -> None:
        try:
            async for request in one_by_one(requests):
                if self._call.over or not await sent(self._call.write(request)):
                    return
            await sent(self._call.done_writing())
        except Exception as error:  # noqa: BLE001 - the requests' own; whoever reads the responses is told
            self._broken = error
            self._call.cancel()

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        response = await self._heard(self._call.read())
        if response is EOF:
            self._sender.cancel()
        return response

    async def write(self, request: Any) -> None:
        """Send one more request beside the iterator's."""
        await self._call.write(request)

    async def done_writing(self) -> None:
        """Say that no more requests come."""
        await self._call.done_writing()

    def cancel(self) -> bool:
        """Give the call up; say whether there was something to give up."""
        self._sender.cancel()
        return self._call.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            while (response := await self.read()) is not EOF:
                yield response
        finally:
            self.cancel()

    def __await__(self) -> Any:
        return self._single().__await__()

    async def _single(self) -> Any:
        response = await self._heard(self._call.single())
        self._sender.cancel()
        return response

    async def _heard(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except BaseException as error:
            self._sender.cancel()
            if self._broken is not None and isinstance(error, ArgosyError):
                raise self._broken from error
            raise
