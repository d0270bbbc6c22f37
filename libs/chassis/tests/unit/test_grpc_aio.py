"""Streams in both directions over the loopback, by both channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from chassis.errors import InvalidRequest, RemoteError
from chassis.tenancy import as_caller
from chassis.testing import a_caller, free_port
from chassis.testing.grpc import serving_at
from chassis.testing.grpc_aio import GrpcAioChannel
from google.protobuf.wrappers_pb2 import StringValue as Text

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, requests, text


async def test_responses_stream(stub: EchoStub, echo: EchoService) -> None:
    assert [answer.value async for answer in stub.Repeat(text("a"))] == ["a0", "a1", "a2"]
    assert [answer.value async for answer in stub.Write(text("a"))] == ["written"]
    assert echo.cleaned.is_set()


async def test_requests_stream(stub: EchoStub) -> None:
    written = stub.Join()
    await written.write(text("a"))
    await written.write(text("b"))
    await written.done_writing()

    assert (await written).value == "ab"
    assert (await stub.Join(requests("c", "d"))).value == "cd"


async def test_both_ways_stream_at_once(stub: EchoStub) -> None:
    call = stub.Answer()
    received = []
    await call.write(text("1"))
    async for answer in call:
        received.append(answer.value)
        await call.write(text("bye" if len(received) == 3 else str(len(received) + 1)))

    assert received == ["1!", "2!", "3!"]
    assert [answer.value async for answer in stub.Answer(requests("x", "y"))] == ["x!", "y!"]


async def test_reading_ends_with_eof(stub: EchoStub) -> None:
    call = stub.Answer(requests("x"))

    assert (await call.read()).value == "x!"
    assert await call.read() is grpc.aio.EOF


async def test_responses_before_a_failure_arrive(stub: EchoStub) -> None:
    call = stub.Repeat(text("full"))

    assert [(await call.read()).value for _ in range(3)] == ["full0", "full1", "full2"]
    with pytest.raises(RemoteError, match="no seat"):
        await call.read()
    with pytest.raises(RemoteError, match="no seat"):
        [answer async for answer in stub.Repeat(text("full"))]


async def test_a_request_after_a_successful_end_is_no_error(stub: EchoStub) -> None:
    call = stub.Answer()
    await call.write(text("bye"))
    assert await call.read() is grpc.aio.EOF

    await call.write(text("too late"))


async def test_a_request_to_a_failed_stream_raises_its_error(stub: EchoStub) -> None:
    call = stub.Answer()
    await call.write(text("full"))
    with pytest.raises(RemoteError, match="no seat"):
        await call.read()

    with pytest.raises(RemoteError, match="no seat"):
        await call.write(text("too late"))


@pytest.mark.parametrize("error", [ZeroDivisionError(), InvalidRequest("the requests' own")])
async def test_the_reader_gets_the_error_of_the_request_iterator(stub: EchoStub, error: Exception) -> None:
    async def broken() -> AsyncIterator[Text]:
        yield text("a")
        raise error

    call = stub.Answer(broken())
    with pytest.raises(type(error)):
        [answer async for answer in call]
    with pytest.raises(type(error)):
        await stub.Join(broken())


async def test_a_cancelled_call_is_cancelled_at_the_peer(stub: EchoStub, echo: EchoService) -> None:
    task = asyncio.create_task(stub.Echo(text("hang")))
    await echo.reached.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await echo.cleaned.wait()


async def test_a_stream_whose_iteration_ends_early_is_cancelled_at_the_peer(stub: EchoStub, echo: EchoService) -> None:
    async for _ in stub.Repeat(text("hang")):
        break

    await echo.cleaned.wait()


async def test_a_stream_can_be_cancelled(stub: EchoStub, echo: EchoService) -> None:
    call = stub.Repeat(text("hang"))
    await echo.reached.wait()

    assert call.cancel()

    await echo.cleaned.wait()


async def test_a_call_without_a_connection_waits_for_one(echo: EchoService, monkeypatch: pytest.MonkeyPatch) -> None:
    # As between the death of a peer and the moment when the channel learns of it.
    monkeypatch.setattr(GrpcAioChannel, "ready", True)
    address = f"127.0.0.1:{free_port()}"
    async with GrpcAioChannel(address, "the echo service") as channel:
        stub = EchoStub(channel)
        with as_caller(a_caller()):
            written = stub.Answer()
            calls = [
                asyncio.ensure_future(call)
                for call in (
                    stub.Echo(text("a")),
                    stub.Repeat(text("b")).read(),
                    stub.Join(requests("c", "d")),
                    stub.Answer(requests("e")).read(),
                    written.write(text("f")),
                    written.read(),
                )
            ]
            while (state := channel.get_state()) is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                await channel.wait_for_state_change(state)
            async with serving_at(address, [(register, echo, SERVICE)]):
                printed, repeated, joined, answered, _, received = await asyncio.gather(*calls)
                written.cancel()

    assert [message.value for message in (printed, repeated, joined, answered, received)] == [
        "a!",
        "b0",
        "cd",
        "e!",
        "f!",
    ]
