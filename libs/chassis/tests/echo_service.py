"""A service with one method of each shape, and its stub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
from chassis.errors import ArgosyError, InvalidRequest, Kind
from chassis.tenancy import current_caller
from google.protobuf.wrappers_pb2 import StringValue as Text

SERVICE = "test.EchoService"
SHAPES = {
    "Echo": grpc.unary_unary_rpc_method_handler,
    "Repeat": grpc.unary_stream_rpc_method_handler,
    "Join": grpc.stream_unary_rpc_method_handler,
    "Answer": grpc.stream_stream_rpc_method_handler,
    "Write": grpc.unary_stream_rpc_method_handler,
    "Later": grpc.unary_unary_rpc_method_handler,
}


class Full(ArgosyError):
    """No seat is free."""

    kind, reason = Kind.EXHAUSTED, "FULL"


class EchoService:
    """One method of each shape."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self.cleaned = asyncio.Event()
        self.callers: list[Any] = []

    async def echo(self, request: Text, context: Any) -> Text:
        self.callers.append(current_caller())
        match request.value:
            case "full":
                raise Full("no seat", param="seat", retry_after=timedelta(seconds=1.5), details={"rows": "7"})
            case "nonsense":
                raise InvalidRequest("'my secret prompt' is no word", param="value")
            case "bug":
                raise KeyError("the secret of the database")
            case "hang":
                self.reached.set()
                try:
                    await self.released.wait()
                finally:
                    self.cleaned.set()
            case "large":
                return Text(value="x" * 17 * 1024 * 1024)
        return Text(value=f"{request.value}!")

    async def repeat(self, request: Text, context: Any) -> AsyncIterator[Text]:
        try:
            for number in range(3):
                yield Text(value=f"{request.value}{number}")
            if request.value == "full":
                raise Full("no seat")
            if request.value == "hang":
                self.reached.set()
                await self.released.wait()
        finally:
            self.cleaned.set()

    async def join(self, requests: AsyncIterator[Text], context: Any) -> Text:
        return Text(value="".join([request.value async for request in requests]))

    async def answer(self, requests: AsyncIterator[Text], context: Any) -> AsyncIterator[Text]:
        async for request in requests:
            if request.value == "full":
                raise Full("no seat")
            if request.value == "bye":
                return
            yield Text(value=f"{request.value}!")

    async def write(self, request: Text, context: Any) -> None:
        await context.write(Text(value="written"))

    def later(self, request: Text, context: Any) -> Text:
        raise NotImplementedError("Method not implemented!")


def register(echo: EchoService, server: Any) -> None:
    handlers = {
        name: shape(
            getattr(echo, name.lower()),
            request_deserializer=Text.FromString,
            response_serializer=Text.SerializeToString,
        )
        for name, shape in SHAPES.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


class EchoStub:
    """As a generated one."""

    def __init__(self, channel: Any) -> None:
        codec = {
            "request_serializer": Text.SerializeToString,
            "response_deserializer": Text.FromString,
            "_registered_method": True,
        }
        self.Echo = channel.unary_unary(f"/{SERVICE}/Echo", **codec)
        self.Repeat = channel.unary_stream(f"/{SERVICE}/Repeat", **codec)
        self.Join = channel.stream_unary(f"/{SERVICE}/Join", **codec)
        self.Answer = channel.stream_stream(f"/{SERVICE}/Answer", **codec)
        self.Write = channel.unary_stream(f"/{SERVICE}/Write", **codec)
        self.Later = channel.unary_unary(f"/{SERVICE}/Later", **codec)


def text(value: str) -> Text:
    return Text(value=value)


async def requests(*values: str) -> AsyncIterator[Text]:
    for value in values:
        yield text(value)
