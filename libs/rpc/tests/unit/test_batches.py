"""Coalescing: frames of a busy stream share batches, a single frame is sent at once, no batch exceeds gRPC's limit."""

from __future__ import annotations

import asyncio

import pytest
from argosy.exchange.v1.exchange_pb2 import Batch, Frame
from chassis.errors import RemoteError, Unavailable
from chassis.grpc import Channel
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving_at
from rpc.metrics import VIOLATIONS
from rpc.wire import MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES, SendQueue

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, text
from libs.rpc.tests.raw_peer import RawStream, begin, raw_client, raw_server, received


class Tape:
    """Records the writes of a send queue; each waits while `held`."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.sizes: list[int] = []
        self.free = asyncio.Event()
        self.free.set()

    async def write(self, data: bytes) -> None:
        self.batches.append(Batch.FromString(data))
        self.sizes.append(len(data))
        await self.free.wait()

    async def all_of(self, outbox: SendQueue) -> list[Frame]:
        outbox.close()
        await outbox.pump(self.write)
        return [frame for batch in self.batches for frame in batch.frames]


async def test_calls_of_one_turn_travel_as_one_message(echo: EchoService) -> None:
    tape = Tape()
    outbox = SendQueue("client")
    pump = asyncio.create_task(outbox.pump(tape.write))
    await asyncio.sleep(0)
    for call_id in range(1, 101):
        outbox.put(call_id, b"a")
    outbox.close()
    await pump

    assert [len(batch.frames) for batch in tape.batches] == [100]


async def test_frames_queued_during_a_write_are_the_next_batch() -> None:
    tape = Tape()
    tape.free.clear()
    outbox = SendQueue("client")
    pump = asyncio.create_task(outbox.pump(tape.write))
    for call_id in range(1, 11):
        outbox.put(call_id, b"a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    tape.free.set()
    outbox.close()
    await pump

    assert [len(batch.frames) for batch in tape.batches] == [1, 9]


async def test_steps_of_a_call_that_wait_together_are_one_frame_in_order() -> None:
    outbox = SendQueue("client")
    outbox.put(1, method="/a/B", metadata=["k", "v"])
    outbox.put(1, b"x")
    outbox.put(2, b"other")
    outbox.put(1, b"y")
    outbox.put(1, credit=3)
    outbox.put(1, credit=4, end=True)

    first, second = await Tape().all_of(outbox)

    assert (first.call_id, list(first.payloads), first.credit, first.end) == (1, [b"x", b"y"], 7, True)
    assert (second.call_id, list(second.payloads)) == (2, [b"other"])


async def test_an_idle_stream_delivers_each_message_at_once(echo: EchoService) -> None:
    async with serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server, raw_client(server.port) as client:
        await client.send(begin(1, "Answer", end=False))
        for number in range(5):
            await client.send(Frame(call_id=1, payloads=[text(str(number)).SerializeToString()]))
            frame = await client.frame(1)
            assert (received(frame), frame.end) == ([f"{number}!"], False)


@pytest.mark.parametrize("payload_bytes", [0, MAX_PAYLOAD_BYTES])
async def test_no_batch_is_over_what_grpc_takes(payload_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, tape = SendQueue("client"), Tape()
    reported = ["k", "v" * 10_000]
    for call_id in range(1, 2_001):
        outbox.put(call_id, method="/a/B", metadata=reported)
    outbox.put(2_001, bytes(payload_bytes))
    for call_id in range(2_002, 2_011):
        outbox.put(call_id, method="/a/B", metadata=reported)

    frames = await tape.all_of(outbox)

    assert max(tape.sizes) <= MAX_MESSAGE_BYTES
    assert [frame.call_id for frame in frames] == list(range(1, 2_011))


async def test_a_payload_at_the_limit_arrives_and_one_over_it_is_refused_both_ways(echo: EchoService) -> None:
    largest = MAX_PAYLOAD_BYTES - 5 - 1  # the field's head, and the "!" that comes back
    async with (
        serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server,
        Channel(f"127.0.0.1:{server.port}", "echo") as channel,
    ):
        stub = EchoStub(channel)
        with as_caller(a_caller()):
            assert len((await stub.Echo(text("x" * largest))).value) == largest + 1
            for value in ("x" * MAX_PAYLOAD_BYTES, "x" * (largest + 1), "large"):
                with pytest.raises(RemoteError):
                    await stub.Echo(text(value))
            assert (await stub.Echo(text("a"))).value == "a!"


async def test_a_stream_with_a_malformed_message_is_reopened(echo: EchoService) -> None:
    async def nonsense(stream: RawStream) -> None:
        await stream.called()
        await stream.context.write(b"\xff\xff")
        await asyncio.Event().wait()

    async def well(stream: RawStream) -> None:
        while True:
            await stream.answer(await stream.called())

    violations = VIOLATIONS.labels("client")._value
    before = violations.get()
    async with raw_server(nonsense, well) as port, Channel(f"127.0.0.1:{port}", "echo") as channel:
        with pytest.raises(Unavailable):
            await EchoStub(channel).Echo(text("a"))
        assert (await EchoStub(channel).Echo(text("a"))).value == "raw"

    assert violations.get() == before + 1
