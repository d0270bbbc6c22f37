"""A service that pours as much as it may and drinks as slowly as a test wants, and its stub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from chassis.testing.grpc import serving
from google.protobuf.wrappers_pb2 import StringValue as Text

SERVICE = "test.StreamingTestService"
SHAPES = {
    "Pour": grpc.unary_stream_rpc_method_handler,
    "Drink": grpc.stream_unary_rpc_method_handler,
    "Fill": grpc.unary_unary_rpc_method_handler,
}


class StreamingTestService:
    def __init__(self) -> None:
        self.poured = 0
        """Messages that could be written, by all calls together."""
        self.ended = 0
        self.thirsty = asyncio.Event()
        self.drunk = 0

    async def pour(self, request: Text, context: Any) -> AsyncIterator[Text]:
        """As many messages as "count size" says."""
        count, size = map(int, request.value.split())
        message = Text(value="x" * size)
        try:
            for _ in range(count):
                yield message
                self.poured += 1
        finally:
            self.ended += 1

    async def drink(self, requests: AsyncIterator[Text], context: Any) -> Text:
        await self.thirsty.wait()
        async for _ in requests:
            self.drunk += 1
        return Text(value=str(self.drunk))

    async def fill(self, request: Text, context: Any) -> Text:
        """Answer with as many bytes as asked for."""
        self.poured += 1
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
        self.Pour = channel.unary_stream(f"/{SERVICE}/Pour", **codec)
        self.Drink = channel.stream_unary(f"/{SERVICE}/Drink", **codec)
        self.Fill = channel.unary_unary(f"/{SERVICE}/Fill", **codec)


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
