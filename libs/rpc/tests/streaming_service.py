"""A service that streams as fast as flow control allows and reads when a test lets it, and its stub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from chassis.testing.grpc import serving
from google.protobuf.wrappers_pb2 import StringValue as Text

SERVICE = "test.StreamingTestService"
SHAPES = {
    "Stream": grpc.unary_stream_rpc_method_handler,
    "Consume": grpc.stream_unary_rpc_method_handler,
    "Reply": grpc.unary_unary_rpc_method_handler,
}


class StreamingTestService:
    def __init__(self) -> None:
        self.written = 0
        """Messages written by all calls together."""
        self.ended = 0
        self.may_read = asyncio.Event()
        self.read = 0

    async def stream(self, request: Text, context: Any) -> AsyncIterator[Text]:
        """Stream as many messages as requested by "count size"."""
        count, size = map(int, request.value.split())
        message = Text(value="x" * size)
        try:
            for _ in range(count):
                yield message
                self.written += 1
        finally:
            self.ended += 1

    async def consume(self, requests: AsyncIterator[Text], context: Any) -> Text:
        await self.may_read.wait()
        async for _ in requests:
            self.read += 1
        return Text(value=str(self.read))

    async def reply(self, request: Text, context: Any) -> Text:
        """Answer with as many bytes as asked for."""
        self.written += 1
        return Text(value="x" * int(request.value))


def register(service: StreamingTestService, server: Any) -> None:
    handlers = {
        name: shape(
            getattr(service, name.lower()),
            request_deserializer=Text.FromString,
            response_serializer=Text.SerializeToString,
        )
        for name, shape in SHAPES.items()
    }
    server.add_registered_method_handlers(SERVICE, handlers)


class StreamingTestStub:
    def __init__(self, channel: Any) -> None:
        codec = {"request_serializer": Text.SerializeToString, "response_deserializer": Text.FromString}
        self.Stream = channel.unary_stream(f"/{SERVICE}/Stream", **codec)
        self.Consume = channel.stream_unary(f"/{SERVICE}/Consume", **codec)
        self.Reply = channel.unary_unary(f"/{SERVICE}/Reply", **codec)


def at(service: StreamingTestService) -> Any:
    """Serve it and yield a channel to it."""
    return serving((register, service, SERVICE))


async def still(count: Any) -> int:
    """Wait until a number stands still and return it."""
    last = -1
    while (now := count()) != last:
        last = now
        await asyncio.sleep(0.05)
    return last
