"""Hand-made peers that send single frames, so that tests can violate the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
from argosy.exchange.v1.exchange_pb2 import Batch, Frame
from chassis.testing import a_caller
from google.protobuf.wrappers_pb2 import StringValue as Text
from rpc.wire import MAX_MESSAGE_BYTES, OPEN_METHOD, SERVICE_NAME, VERSION_METADATA

LIMITS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
)


def known(*extra: str) -> list[str]:
    """Metadata of a caller whom the echo service's server believes."""
    caller = a_caller()
    return ["argosy-principal", caller.token, "argosy-request-id", caller.request_id, *extra]


def begin(
    call_id: int, method: str, *payloads: str, end: bool = True, service: str = "test.EchoService", **fields: Any
) -> Frame:
    """The first frame of a call."""
    fields = {"metadata": known(), "timeout_microseconds": 60_000_000, **fields}
    data = [Text(value=payload).SerializeToString() for payload in payloads]
    return Frame(call_id=call_id, method=f"/{service}/{method}", payloads=data, end=end, **fields)


def payload_frame(call_id: int, *payloads: str, **fields: Any) -> Frame:
    """A later frame of a call."""
    return Frame(call_id=call_id, payloads=[Text(value=payload).SerializeToString() for payload in payloads], **fields)


def received(frame: Frame) -> list[str]:
    """The payloads of a frame as texts."""
    return [Text.FromString(payload).value for payload in frame.payloads]


class RawClient:
    """One stream, of which a test writes and reads the frames."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._frames: list[Frame] = []

    async def send(self, *frames: Frame) -> None:
        """Send these as one batch."""
        await self.call.write(Batch(frames=frames).SerializeToString())

    async def frame(self, call_id: int | None = None) -> Frame:
        """Wait for the next frame, of this call where one is named; those of others are kept."""
        while True:
            for place, frame in enumerate(self._frames):
                if call_id is None or frame.call_id == call_id:
                    return self._frames.pop(place)
            data = await self.call.read()
            assert data is not grpc.aio.EOF, "the stream has ended"
            self._frames += Batch.FromString(data).frames

    async def end(self, call_id: int) -> Frame:
        """Wait for the end of a call."""
        while not (frame := await self.frame(call_id)).end:
            pass
        return frame

    async def ask(self, call_id: int, value: str = "a") -> str:
        """Make a whole call and return its answer: the stream is in order."""
        await self.send(begin(call_id, "Echo", value))
        frame = await self.end(call_id)
        assert frame.code == 0, frame
        return received(frame)[0]


@asynccontextmanager
async def raw_client(port: int, metadata: Any = (VERSION_METADATA,)) -> AsyncIterator[RawClient]:
    """Open a stream to a server."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=LIMITS) as channel:
        call: Any = channel.stream_stream(OPEN_METHOD)(metadata=metadata)
        yield RawClient(call)
        call.cancel()


class RawStream:
    """One stream of a hand-made server."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self._frames: list[Frame] = []

    async def send(self, *frames: Frame) -> None:
        """Send these as one batch."""
        await self.context.write(Batch(frames=frames).SerializeToString())

    async def frame(self) -> Frame:
        """Wait for the next frame."""
        while not self._frames:
            data = await self.context.read()
            if data is grpc.aio.EOF:
                raise EOFError
            self._frames += Batch.FromString(data).frames
        return self._frames.pop(0)

    async def called(self) -> Frame:
        """Wait for the next call to begin."""
        while not (frame := await self.frame()).method:
            pass
        return frame

    async def answer(self, frame: Frame, value: str = "raw") -> None:
        """End a call well."""
        await self.send(payload_frame(frame.call_id, value, end=True))


Behaviour = Callable[[RawStream], Awaitable[None]]


@asynccontextmanager
async def raw_server(*behaviours: Behaviour, metadata: Any = (VERSION_METADATA,), port: int = 0) -> AsyncIterator[int]:
    """Serve the n-th stream that is opened by the n-th behaviour, and all after by the last; yields the port."""
    opened = 0

    async def serve(_: Any, context: Any) -> None:
        nonlocal opened
        behaviour = behaviours[min(opened, len(behaviours) - 1)]
        opened += 1
        if metadata is not None:
            await context.send_initial_metadata(metadata)
        with suppress(EOFError):
            await behaviour(RawStream(context))

    server = grpc.aio.server(options=LIMITS)
    handlers: Any = {"Open": grpc.stream_stream_rpc_method_handler(serve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def forever(stream: RawStream) -> None:
    """Neither send nor read anything."""
    await asyncio.Event().wait()
