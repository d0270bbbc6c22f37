"""Streams of both directions, in process, over the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from chassis.errors import RemoteFailure
from google.protobuf.wrappers_pb2 import StringValue as Text

from libs.chassis.tests.parrot import Parrot, ParrotStub, requests, text


async def test_responses_stream(stub: ParrotStub, parrot: Parrot) -> None:
    assert [answer.value async for answer in stub.Repeat(text("a"))] == ["a0", "a1", "a2"]
    assert [answer.value async for answer in stub.Write(text("a"))] == ["written"]
    assert parrot.cleaned.is_set()


async def test_requests_stream(stub: ParrotStub) -> None:
    written = stub.Join()
    await written.write(text("a"))
    await written.write(text("b"))
    await written.done_writing()

    assert (await written).value == "ab"
    assert (await stub.Join(requests("c", "d"))).value == "cd"


async def test_both_ways_stream_at_once(stub: ParrotStub) -> None:
    call = stub.Answer()
    heard = []
    await call.write(text("1"))
    async for answer in call:
        heard.append(answer.value)
        await call.write(text("bye" if len(heard) == 3 else str(len(heard) + 1)))

    assert heard == ["1!", "2!", "3!"]
    assert [answer.value async for answer in stub.Answer(requests("x", "y"))] == ["x!", "y!"]


async def test_reading_ends_with_eof(stub: ParrotStub) -> None:
    call = stub.Answer(requests("x"))

    assert (await call.read()).value == "x!"
    assert await call.read() is grpc.aio.EOF


async def test_what_a_stream_said_before_it_failed_arrives(stub: ParrotStub) -> None:
    call = stub.Repeat(text("full"))

    assert [(await call.read()).value for _ in range(3)] == ["full0", "full1", "full2"]
    with pytest.raises(RemoteFailure, match="no seat"):
        await call.read()
    with pytest.raises(RemoteFailure, match="no seat"):
        [answer async for answer in stub.Repeat(text("full"))]


async def test_a_request_that_nobody_needs_any_more_is_no_error(stub: ParrotStub) -> None:
    call = stub.Answer()
    await call.write(text("bye"))
    assert await call.read() is grpc.aio.EOF

    await call.write(text("too late"))


async def test_a_request_to_a_failed_stream_says_why(stub: ParrotStub) -> None:
    call = stub.Answer()
    await call.write(text("full"))
    with pytest.raises(RemoteFailure, match="no seat"):
        await call.read()

    with pytest.raises(RemoteFailure, match="no seat"):
        await call.write(text("too late"))


async def test_what_broke_the_requests_is_what_the_reader_sees(stub: ParrotStub) -> None:
    async def broken() -> AsyncIterator[Text]:
        yield text("a")
        raise ZeroDivisionError

    call = stub.Answer(broken())
    with pytest.raises(ZeroDivisionError):
        [answer async for answer in call]
    with pytest.raises(ZeroDivisionError):
        await stub.Join(broken())


async def test_a_cancelled_call_is_cancelled_at_the_peer(stub: ParrotStub, parrot: Parrot) -> None:
    task = asyncio.create_task(stub.Say(text("hang")))
    await parrot.reached.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await parrot.cleaned.wait()


async def test_a_stream_that_is_left_early_is_cancelled_at_the_peer(stub: ParrotStub, parrot: Parrot) -> None:
    async for _ in stub.Repeat(text("hang")):
        break

    await parrot.cleaned.wait()


async def test_a_stream_can_be_cancelled(stub: ParrotStub, parrot: Parrot) -> None:
    call = stub.Repeat(text("hang"))
    await parrot.reached.wait()

    assert call.cancel()

    await parrot.cleaned.wait()
