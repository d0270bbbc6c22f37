"""When a call is made a second time, and when never."""

from __future__ import annotations

import asyncio

import pytest
from argosy.exchange.v1.exchange_pb2 import Frame
from argosy.metering.v1 import metering_pb2 as metering
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.errors import Unavailable
from chassis.grpc import Channel
from rpc.client_call import ClientCall
from rpc.flow_control import Deadlines
from rpc.wire import MAX_BATCH_BYTES, SendQueue, Status

from libs.chassis.tests.echo_service import EchoStub, text
from libs.rpc.tests.raw_peer import RawStream, raw_server


class Log:
    """Calls that arrived at the replicas, and behaviours of a replica."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.arrived = asyncio.Event()

    async def leave_at_once(self, stream: RawStream) -> None:
        """Take one call and break off without a word about it."""
        self.begun.append((await stream.called()).method)
        self.arrived.set()

    async def leave_after_an_answer(self, stream: RawStream) -> None:
        """Answer with one message, not with the end, and break off."""
        frame = await stream.called()
        self.begun.append(frame.method)
        await stream.send(Frame(call_id=frame.call_id, payloads=[b""]))

    async def refuse(self, stream: RawStream) -> None:
        """Refuse every call, like a replica that drains or is full."""
        while True:
            frame = await stream.called()
            self.begun.append("refused")
            await stream.send(Frame(call_id=frame.call_id, end=True, code=14, message="full", refused=True))

    async def answer(self, stream: RawStream) -> None:
        """Answer all calls."""
        while True:
            frame = await stream.called()
            self.begun.append(frame.method)
            await stream.send(Frame(call_id=frame.call_id, payloads=[b""], end=True))


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.mark.parametrize("method", ["Reserve", "GetUsage"])
async def test_a_call_of_an_idempotent_method_is_retried_when_its_stream_is_lost(log: Log, method: str) -> None:
    request = {"Reserve": metering.ReserveRequest, "GetUsage": metering.GetUsageRequest}[method]()
    async with raw_server(log.leave_at_once, log.answer) as port, Channel(f"127.0.0.1:{port}", "metering") as channel:
        await getattr(MeteringServiceStub(channel), method)(request)

    assert log.begun == [f"/argosy.metering.v1.MeteringService/{method}"] * 2


async def test_a_call_of_another_method_is_unavailable_when_its_stream_is_lost(log: Log) -> None:
    async with raw_server(log.leave_at_once, log.answer) as port, Channel(f"127.0.0.1:{port}", "echo") as channel:
        with pytest.raises(Unavailable):
            await EchoStub(channel).Echo(text("a"))
        await EchoStub(channel).Echo(text("b"))

    assert log.begun == ["/test.EchoService/Echo"] * 2


async def test_a_stream_with_a_response_is_not_retried(log: Log) -> None:
    async with (
        raw_server(log.leave_after_an_answer, log.answer) as port,
        Channel(f"127.0.0.1:{port}", "metering") as channel,
    ):
        call = channel.unary_stream("/argosy.metering.v1.MeteringService/GetUsage")(b"")
        assert await call.read() == b""
        with pytest.raises(Unavailable):
            await call.read()

    assert len(log.begun) == 1


class FakeRegistry:
    """Takes the place of a channel and records the calls that are retried."""

    error_type: type[Exception] = Unavailable

    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.assigned: list[ClientCall] = []

    def assign(self, call: ClientCall) -> None:
        self.assigned.append(call)

    def unassign(self, call: ClientCall) -> None:
        call.stream = None

    def to_error(self, status: Status) -> Unavailable:
        return Unavailable(status.message)


def a_call(registry: FakeRegistry, queue: SendQueue) -> ClientCall:
    call = ClientCall(registry, "/test.EchoService/Answer", (bytes, bytes), 5, [], idempotent=False)
    call.stream = queue
    call.start(1, queue)
    return call


async def test_a_partly_written_call_is_not_retried() -> None:
    # Its first request may have done something already; a later one still waited when the stream broke.
    registry, written = FakeRegistry(), asyncio.Event()
    queue = SendQueue("client")

    async def stuck(_: bytes) -> None:
        written.set()
        await asyncio.Event().wait()

    pump = asyncio.create_task(queue.pump(stuck))
    call = a_call(registry, queue)
    call.send(b"run")
    await written.wait()
    call.send(b"stop")
    pump.cancel()
    call.stream_lost(queue.written_batches)

    assert registry.assigned == []
    with pytest.raises(Unavailable):
        await call.read()


async def test_a_call_that_was_not_written_is_retried() -> None:
    registry, queue = FakeRegistry(), SendQueue("client")
    call = a_call(registry, queue)
    call.send(b"run")
    call.stream_lost(queue.written_batches)

    assert registry.assigned == [call]
    call.cancel()


async def test_a_call_of_several_batches_counts_as_written_with_the_first() -> None:
    registry, queue = FakeRegistry(), SendQueue("client")
    call = ClientCall(registry, "/test.EchoService/Join", (bytes, bytes), 5, [], idempotent=False)
    for _ in range(3):
        call.send(bytes(MAX_BATCH_BYTES))
    call.stream = queue
    call.start(1, queue)
    call.stream_lost(written_batches=1)

    assert registry.assigned == []


async def test_a_refused_call_is_retried_at_another_replica(log: Log) -> None:
    async with (
        raw_server(log.refuse) as full,
        raw_server(log.answer) as free,
        Channel(f"127.0.0.1:{full},127.0.0.1:{free}", "echo") as channel,
    ):
        while len(channel._replicas._streams) < 2:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(EchoStub(channel).Echo(text("a")) for _ in range(4)))

    assert log.begun.count("/test.EchoService/Echo") == 4
    assert "refused" in log.begun


@pytest.mark.timeout(60)
async def test_a_call_refused_by_all_replicas_ends(log: Log) -> None:
    async with raw_server(log.refuse) as port, Channel(f"127.0.0.1:{port}", "echo") as channel:
        with pytest.raises(Unavailable):
            await EchoStub(channel).Echo(text("a"), timeout=30)

    assert len(log.begun) <= 10
