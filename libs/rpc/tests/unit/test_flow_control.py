"""A slow reader delays its own call only, and what is queued for it is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from chassis.errors import DeadlineExceeded, Unavailable
from chassis.grpc import Channel
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving_at
from chassis.testing.network import TcpProxy
from google.protobuf.wrappers_pb2 import StringValue as Text
from rpc import wire
from rpc.wire import WINDOW_BYTES

from libs.chassis.tests.echo_service import text
from libs.rpc.tests.leaks import no_leak
from libs.rpc.tests.raw_peer import begin, raw_client
from libs.rpc.tests.streaming_service import SERVICE, StreamingTestService, StreamingTestStub, at, register, still

KB = 1024


@pytest.fixture
async def service() -> StreamingTestService:
    return StreamingTestService()


@pytest.fixture
async def stub(service: StreamingTestService) -> AsyncIterator[StreamingTestStub]:
    async with at(service) as channel:
        with as_caller(a_caller()):
            yield StreamingTestStub(channel)


async def test_a_stalled_reader_stops_the_writer_of_its_own_call_only(
    stub: StreamingTestStub, service: StreamingTestService
) -> None:
    lazy = stub.Stream(text(f"1000 {4 * KB}"))
    await lazy.read()

    stopped_at = await still(lambda: service.written)
    keen = [message async for message in stub.Stream(text(f"1000 {4 * KB}"))]

    assert stopped_at <= WINDOW_BYTES // (4 * KB) + 1
    assert len(keen) == 1000
    assert service.written == stopped_at + 1000
    lazy.cancel()


async def test_credit_flows_again_when_the_reader_reads(stub: StreamingTestStub, service: StreamingTestService) -> None:
    call = stub.Stream(text(f"1000 {4 * KB}"))
    await still(lambda: service.written)

    assert len([message async for message in call]) == 1000
    assert service.written == 1000


async def test_a_servicer_that_does_not_read_stops_its_caller(
    stub: StreamingTestStub, service: StreamingTestService
) -> None:
    written = 0

    async def requests() -> AsyncIterator[Text]:
        nonlocal written
        for _ in range(1000):
            yield text("x" * 4 * KB)
            written += 1

    call = stub.Consume(requests())
    drinking = asyncio.ensure_future(call)
    stopped_at = await still(lambda: written)
    filled = await stub.Reply(text("10"))
    service.may_read.set()

    assert stopped_at <= WINDOW_BYTES // (4 * KB) + 1
    assert len(filled.value) == 10
    assert (await drinking).value == "1000"


async def test_a_stuck_stream_bounds_what_waits_and_a_deadline_ends_the_wait_for_it(
    service: StreamingTestService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_QUEUED_BYTES", 64 * KB)
    async with (
        serving_at("127.0.0.1:0", [(register, service, SERVICE)]) as server,
        TcpProxy(server.port) as line,
        Channel(f"127.0.0.1:{line.port}", "the tap") as channel,
    ):
        with as_caller(a_caller()):
            stub = StreamingTestStub(channel)
            await stub.Reply(text("1"))
            line.freeze()
            calls = [stub.Consume(timeout=0.5) for _ in range(50)]
            async with asyncio.timeout(30):
                endings = await asyncio.gather(*map(_write_on, calls), return_exceptions=True)
            queued = [stream._send_queue.queued_bytes for stream in channel._replicas._streams]
        await line.mend()

    assert {type(ending) for ending in endings} == {DeadlineExceeded}
    assert all(waiting < 4 * 64 * KB for waiting in queued)


async def _write_on(call: object) -> None:
    while True:
        await call.write(text("x" * 32 * KB))  # type: ignore[attr-defined]


@pytest.mark.timeout(60)
async def test_requests_that_wait_for_room_end_with_the_stream(
    service: StreamingTestService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_QUEUED_BYTES", 64 * KB)
    async with (
        no_leak(),
        serving_at("127.0.0.1:0", [(register, service, SERVICE)]) as server,
        TcpProxy(server.port) as line,
    ):

        async def cut_while_writing(stub: StreamingTestStub) -> set[type]:
            line.freeze()
            writers = [asyncio.ensure_future(_write_on(stub.Consume())) for _ in range(50)]
            await asyncio.sleep(0.1)
            await line.cut()
            return {type(ending) for ending in await asyncio.gather(*writers, return_exceptions=True)}

        async with Channel(f"127.0.0.1:{line.port}", "the tap") as channel:
            with as_caller(a_caller()):
                await channel.channel_ready()
                assert await cut_while_writing(StreamingTestStub(channel)) == {Unavailable}
                await line.mend()
                assert (await StreamingTestStub(channel).Reply(text("3"))).value == "xxx"


@pytest.mark.timeout(60)
async def test_responses_that_wait_for_room_end_with_the_stream(
    service: StreamingTestService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_QUEUED_BYTES", 64 * KB)
    async with (
        no_leak(),
        serving_at("127.0.0.1:0", [(register, service, SERVICE)]) as server,
        TcpProxy(server.port) as line,
    ):

        async def cut_while_pouring(stub: StreamingTestStub) -> set[type]:
            pouring = [asyncio.ensure_future(_all(stub.Stream(text(f"1000 {32 * KB}")))) for _ in range(50)]
            while service.written < 50:
                await asyncio.sleep(0)
            line.freeze()
            await still(lambda: service.written)
            await line.cut()
            return {type(ending) for ending in await asyncio.gather(*pouring, return_exceptions=True)}

        async with Channel(f"127.0.0.1:{line.port}", "the tap") as channel:
            with as_caller(a_caller()):
                await channel.channel_ready()
                assert await cut_while_pouring(StreamingTestStub(channel)) == {Unavailable}
                await line.mend()
                assert (await StreamingTestStub(channel).Reply(text("3"))).value == "xxx"
        assert service.ended == 50


async def _all(call: object) -> int:
    return len([message async for message in call])  # type: ignore[attr-defined]


async def test_unary_responses_wait_while_the_send_queue_is_full(
    service: StreamingTestService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_QUEUED_BYTES", 64 * KB)
    async with serving_at("127.0.0.1:0", [(register, service, SERVICE)]) as server, raw_client(server.port) as client:
        await client.send(*(begin(call_id, "Reply", str(1024 * KB), service=SERVICE) for call_id in range(1, 41)))
        await still(lambda: service.written)
        (stream,) = server._exchange._streams
        queued = stream._send_queue.queued_bytes

        answered = [(await client.end(call_id)) for call_id in range(1, 41)]

    assert queued <= 4 * 1024 * KB
    assert {frame.code for frame in answered} == {0}
