"""Calls as a channel makes them: one class per shape, with the faces that generated stubs promise."""

from __future__ import annotations

from typing import Any

import grpc

from chassis.grpc.status import never_sent
from chassis.grpc.streams import Line, StreamCall


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
            if not never_sent(error):
                raise line.failure(error) from error
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
