"""Metadata of calls, and the isolation of calls on one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import grpc
import pytest
from chassis.errors import DeadlineExceeded, RemoteError
from chassis.grpc import Channel
from chassis.telemetry import bind, span
from chassis.tenancy import as_caller, current_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving, serving_at
from chassis.testing.traces import recorded_spans
from google.protobuf.wrappers_pb2 import StringValue as Text

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, requests, text
from libs.rpc.tests.raw_peer import begin, forever, raw_client, raw_server

SEEN: ContextVar[str] = ContextVar("SEEN", default="nobody")


class Listener(EchoService):
    """Records the metadata of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[tuple[str, Any]] = []
        self.seen: list[str] = []

    async def echo(self, request: Text, context: Any) -> Text:
        self.received = list(context.invocation_metadata())
        self.seen.append(f"{SEEN.get()} {current_caller().request_id}")
        SEEN.set(request.value)
        await asyncio.sleep(0)
        if request.value == "tell":
            context.set_trailing_metadata((("told-bin", b"\x00\xff"), ("told", "plainly")))
        if request.value == "abort":
            await context.abort(grpc.StatusCode.ABORTED, "on purpose", (("why-bin", b"\xff"),))
        return request

    async def repeat(self, request: Text, context: Any) -> AsyncIterator[Text]:
        context.set_trailing_metadata((("told-bin", b"\x00\xff"),))
        yield request


@pytest.fixture
async def listener() -> Listener:
    return Listener()


@pytest.fixture
async def by_exchange(listener: Listener) -> AsyncIterator[EchoStub]:
    async with serving((register, listener, SERVICE), channel_type=Channel) as channel:
        with as_caller(a_caller()):
            yield EchoStub(channel)


async def test_metadata_of_text_and_of_bytes_arrives(by_exchange: EchoStub, listener: Listener) -> None:
    await by_exchange.Echo(text("a"), metadata=(("x-plain", "ä"), ("x-raw-bin", b"\x00\xff")))

    assert ("x-plain", "ä") in listener.received
    assert ("x-raw-bin", b"\x00\xff") in listener.received


async def test_trailing_metadata_may_be_bytes(by_exchange: EchoStub) -> None:
    assert (await by_exchange.Echo(text("tell"), timeout=30)).value == "tell"
    assert [answer.value async for answer in by_exchange.Repeat(text("tell"), timeout=30)] == ["tell"]
    with pytest.raises(RemoteError, match="on purpose"):
        await by_exchange.Echo(text("abort"), timeout=30)


async def test_trailing_metadata_is_on_the_wire(listener: Listener) -> None:
    async with serving_at("127.0.0.1:0", [(register, listener, SERVICE)]) as server, raw_client(server.port) as client:
        await client.send(begin(1, "Echo", "tell"))

        assert list((await client.end(1)).metadata) == ["told-bin", "AP8=", "told", "plainly"]


async def test_calls_of_one_stream_do_not_see_each_other(by_exchange: EchoStub, listener: Listener) -> None:
    async def ask(number: int) -> None:
        with as_caller(a_caller(a_principal(f"ten_{number}"), f"req_{number}")):
            await by_exchange.Echo(text(f"secret {number}"))

    await asyncio.gather(*(ask(number) for number in range(20)))

    assert sorted(listener.seen) == sorted(f"nobody req_{number}" for number in range(20))


async def test_a_call_has_the_trace_of_its_caller_not_of_the_one_who_opened_the_stream(listener: Listener) -> None:
    with recorded_spans() as ended:
        with span("opening"), bind(of="opening"), as_caller(a_caller(request_id="req_opening")):
            async with serving((register, listener, SERVICE), channel_type=Channel) as channel:
                stub = EchoStub(channel)
                await channel.channel_ready()
                with as_caller(a_caller(request_id="req_asking")), span("asking"):
                    await stub.Echo(text("a"))
        spans = {each.name: each for each in ended()}

    parent = spans["test.EchoService/Echo"].parent
    assert parent is not None
    assert parent.span_id == spans["asking"].context.span_id
    assert listener.seen == ["nobody req_asking"]


async def test_a_status_keeps_its_message_and_details(echo: EchoService) -> None:
    async with serving((register, echo, SERVICE), channel_type=Channel) as channel:
        with as_caller(a_caller()), pytest.raises(RemoteError) as failure:
            await EchoStub(channel).Join(requests("a"), metadata=(("argosy-principal", "other"),))

    assert failure.value.reason == "PRINCIPAL_INVALID"


async def test_a_deadline_ends_the_servers_task_though_the_client_is_silent(echo: EchoService) -> None:
    async with serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server, raw_client(server.port) as client:
        await client.send(begin(1, "Echo", "hang", timeout_microseconds=1_000_000))
        async with asyncio.timeout(30):
            await echo.cleaned.wait()
        frame = await client.end(1)

    assert frame.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


async def test_a_deadline_ends_the_callers_wait_though_the_server_is_silent(echo: EchoService) -> None:
    async with raw_server(forever) as port, Channel(f"127.0.0.1:{port}", "echo") as channel:
        await channel.channel_ready()
        with pytest.raises(DeadlineExceeded):
            await EchoStub(channel).Echo(text("a"), timeout=0.05)
