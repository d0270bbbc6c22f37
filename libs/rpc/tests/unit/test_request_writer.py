"""Requests from an iterator and their task end with the call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from chassis.grpc import Channel
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from google.protobuf.wrappers_pb2 import StringValue as Text

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, text
from libs.rpc.tests.leaks import no_leak


@pytest.fixture
async def by_exchange(echo: EchoService) -> AsyncIterator[EchoStub]:
    async with serving((register, echo, SERVICE), channel_type=Channel) as channel:
        with as_caller(a_caller()):
            yield EchoStub(channel)


async def test_requests_that_wait_end_when_reading_reaches_the_end(by_exchange: EchoStub) -> None:
    closed = asyncio.Event()

    async def waiting() -> AsyncIterator[Text]:
        try:
            yield text("bye")
            await asyncio.Event().wait()
        finally:
            closed.set()

    call = by_exchange.Answer(waiting())
    assert await call.read() is grpc.aio.EOF

    async with asyncio.timeout(30):
        await closed.wait()


@pytest.mark.timeout(60)
async def test_requests_without_end_stop_when_the_call_has(by_exchange: EchoStub) -> None:
    taken = 0

    def endless() -> Iterator[Text]:
        nonlocal taken
        yield text("bye")
        while True:
            taken += 1
            yield text("x" * 1024)

    call = by_exchange.Answer(endless())
    assert await call.read() is grpc.aio.EOF
    await asyncio.sleep(0)
    before = taken
    await asyncio.sleep(0.05)

    assert taken == before


async def test_a_stream_whose_iteration_ends_early_leaves_no_task(by_exchange: EchoStub) -> None:
    await by_exchange.Echo(text("a"))  # the stream is open
    before = asyncio.all_tasks()
    async for _ in by_exchange.Answer(iter([text("a"), text("b")])):
        break
    async with asyncio.timeout(30):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)


async def test_a_request_that_cannot_be_written_down_leaves_nothing_behind(by_exchange: EchoStub) -> None:
    assert (await by_exchange.Echo(text("a"))).value == "a!"
    async with no_leak():
        with pytest.raises((AttributeError, TypeError)):
            await by_exchange.Echo("no message")
