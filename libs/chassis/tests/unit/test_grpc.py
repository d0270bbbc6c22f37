"""Both ends of gRPC, in process, over the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from chassis.clock import SystemClock
from chassis.errors import DeadlineExceeded, InvalidRequest, Kind, RemoteError, Unavailable
from chassis.grpc import STATUS, GrpcServer, pipeline
from chassis.grpc.status import BY_VALUE
from chassis.telemetry import span
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal, a_verifier, free_port
from chassis.testing.grpc import serving, serving_at
from chassis.testing.traces import recorded_spans
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs.chassis.tests.conftest import ChannelType
from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, requests, text


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(Kind) == set(BY_VALUE.values())


async def test_a_call_is_of_the_caller_who_made_it(stub: EchoStub, echo: EchoService) -> None:
    caller = a_caller(a_principal("ten_x", roles={"admin"}), "req_1")

    with as_caller(caller):
        answer = await stub.Echo(text("hello"))

    assert answer.value == "hello!"
    assert echo.callers == [caller]


async def test_an_error_arrives_with_all_its_fields(stub: EchoStub) -> None:
    with pytest.raises(RemoteError) as failure:
        await stub.Echo(text("full"))

    error = failure.value
    assert (error.kind, error.reason, error.message, error.param) == (Kind.EXHAUSTED, "FULL", "no seat", "seat")
    assert (error.retry_after, error.details) == (timedelta(seconds=1.5), {"rows": "7"})


async def test_a_bug_is_logged_and_hidden_from_the_caller(stub: EchoStub, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RemoteError) as failure:
        await stub.Echo(text("bug"))

    assert (failure.value.kind, failure.value.message) == (Kind.INTERNAL, "internal error")
    assert "the secret of the database" in capsys.readouterr().out


async def test_messages_that_may_quote_the_request_reach_the_caller_and_not_the_log(
    stub: EchoStub, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RemoteError) as failure:
        await stub.Echo(text("nonsense"))

    assert "my secret prompt" in failure.value.message
    printed = capsys.readouterr().out
    assert "INVALID_REQUEST" in printed
    assert "secret" not in printed


async def test_a_call_without_a_principal_is_refused(channel_type: ChannelType, echo: EchoService) -> None:
    async with serving((register, echo, SERVICE), channel_type=channel_type) as channel:
        with pytest.raises(RemoteError) as failure:
            await EchoStub(channel).Echo(text("hello"))

    assert (failure.value.kind, failure.value.reason) == (Kind.UNAUTHENTICATED, "PRINCIPAL_INVALID")
    assert echo.callers == []


FORGED = {"metadata": (("argosy-principal", "forged"),)}


@pytest.mark.parametrize(
    "ask",
    [
        lambda stub: stub.Echo(text("a"), **FORGED),
        lambda stub: stub.Join(requests("a"), **FORGED),
        lambda stub: stub.Repeat(text("a"), **FORGED).read(),
        lambda stub: stub.Answer(requests("a"), **FORGED).read(),
    ],
)
async def test_a_forged_principal_is_refused_by_every_shape(
    channel_type: ChannelType, echo: EchoService, ask: Callable[[EchoStub], Awaitable[Any]]
) -> None:
    async with serving((register, echo, SERVICE), channel_type=channel_type) as channel:
        with pytest.raises(RemoteError) as failure:
            await ask(EchoStub(channel))

    assert failure.value.reason == "PRINCIPAL_INVALID"


async def test_health_and_reflection_need_no_principal(echo: EchoService) -> None:
    async with (
        serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        listed = await listing.read()

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert SERVICE in {service.name for service in listed.list_services_response.service}


async def test_the_callers_deadline_ends_the_call(stub: EchoStub, echo: EchoService) -> None:
    await stub.Echo(text("a"))  # connected: the next calls reach the server long before their deadline
    with pytest.raises(DeadlineExceeded, match="test did not answer in time"):
        await stub.Echo(text("hang"), timeout=0.5)
    with pytest.raises(DeadlineExceeded, match="test did not answer in time"):
        [answer async for answer in stub.Repeat(text("hang"), timeout=0.5)]

    await echo.cleaned.wait()


async def test_a_caller_without_a_deadline_is_given_one(echo: EchoService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "UNARY_TIMEOUT_SECONDS", 0.5)
    caller = a_caller()
    async with (
        serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await EchoStub(channel).Echo(text("hang"), metadata=(("argosy-principal", caller.token),))

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert echo.cleaned.is_set()
    assert echo.callers[0].request_id.startswith("req_")


async def test_bytes_that_are_no_message_are_the_callers_fault(
    channel_type: ChannelType, stub: EchoStub, echo: EchoService
) -> None:
    async with serving((register, echo, SERVICE), channel_type=channel_type) as channel:
        for call in (channel.unary_unary(f"/{SERVICE}/Echo"), channel.unary_unary(f"/{SERVICE}/Join")):
            with pytest.raises(RemoteError) as failure:
                await call(b"\xff\xff")
            assert failure.value.reason == InvalidRequest.reason


async def test_a_message_over_the_limit_is_a_typed_error(stub: EchoStub) -> None:
    with pytest.raises(RemoteError) as failure:
        await stub.Echo(text("x" * 17 * 1024 * 1024))
    assert failure.value.kind is Kind.TOO_LARGE
    with pytest.raises(RemoteError):
        await stub.Echo(text("large"))
    assert (await stub.Echo(text("x" * 15 * 1024 * 1024))).value.endswith("x!")


async def test_a_method_that_is_not_there_is_a_typed_error(
    channel_type: ChannelType, stub: EchoStub, echo: EchoService
) -> None:
    with pytest.raises(RemoteError) as failure:
        await stub.Later(text("a"))
    assert failure.value.reason == "UNIMPLEMENTED"
    async with serving((register, echo, SERVICE), channel_type=channel_type) as channel:
        with pytest.raises(RemoteError) as failure:
            await channel.unary_unary("/test.EchoService/Sing")(b"")
    assert failure.value.reason == "UNIMPLEMENTED"


async def test_a_peer_that_is_down_is_unavailable_by_name(channel_type: ChannelType, echo: EchoService) -> None:
    async with channel_type(f"127.0.0.1:{free_port()}", "the echo service") as channel:
        stub = EchoStub(channel)
        with pytest.raises(Unavailable, match="the echo service does not answer"):
            await stub.Echo(text("a"), timeout=0.1)
        with pytest.raises(Unavailable, match="the echo service does not answer"):
            await stub.Repeat(text("a"), timeout=0.1).read()
        with pytest.raises(Unavailable, match="the echo service does not answer"):
            await stub.Join(requests("a"), timeout=0.1)
        with pytest.raises(Unavailable, match="the echo service does not answer"):
            await stub.Answer(timeout=0.1).write(text("a"))


async def test_a_call_waits_for_a_peer_that_is_being_restarted(channel_type: ChannelType, echo: EchoService) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with channel_type(address, "the echo service") as channel:
        stub = EchoStub(channel)
        with as_caller(a_caller()):
            async with serving_at(address, [(register, echo, SERVICE)]):
                assert (await stub.Echo(text("a"))).value == "a!"
            waiting = [asyncio.create_task(stub.Echo(text(str(number)))) for number in range(5)]
            stream = stub.Answer(requests("s"))
            read = asyncio.create_task(stream.read())
            await asyncio.sleep(0)
            async with serving_at(address, [(register, echo, SERVICE)]):
                assert [answer.value for answer in await asyncio.gather(*waiting)] == ["0!", "1!", "2!", "3!", "4!"]
                assert (await read).value == "s!"


async def test_a_peer_that_dies_within_a_call_is_unavailable(channel_type: ChannelType, echo: EchoService) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with channel_type(address, "the echo service") as channel:
        with as_caller(a_caller()):
            async with serving_at(address, [(register, echo, SERVICE)]):
                call = asyncio.create_task(EchoStub(channel).Echo(text("hang")))
                await echo.reached.wait()
            with pytest.raises(Unavailable, match="the echo service does not answer"):
                await call


async def test_a_drain_lets_calls_end_and_reports_not_serving(channel_type: ChannelType, echo: EchoService) -> None:
    server = GrpcServer("127.0.0.1:0", [(register, echo, SERVICE)], a_verifier(), SystemClock())
    await server.start()
    address = f"127.0.0.1:{server.port}"
    async with channel_type(address, "test") as channel, grpc.aio.insecure_channel(address) as probe:
        watch = health_pb2_grpc.HealthStub(probe).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        with as_caller(a_caller()):
            call = asyncio.create_task(EchoStub(channel).Echo(text("hang")))
            await echo.reached.wait()
            stopping = asyncio.create_task(server.stop())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch.cancel()
            echo.released.set()

            assert (await call).value == "hang!"
    await stopping


async def test_a_taken_port_is_an_error_at_start(echo: EchoService) -> None:
    async with serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server:
        second = GrpcServer(f"127.0.0.1:{server.port}", [(register, echo, SERVICE)], a_verifier(), SystemClock())
        with pytest.raises(RuntimeError, match="cannot listen on"):
            await second.start()


async def test_a_trace_goes_through_a_call(stub: EchoStub) -> None:
    with recorded_spans() as ended:
        with span("asking"):
            await stub.Echo(text("hello"))
            [answer async for answer in stub.Repeat(text("a"))]
        spans = {each.name: each for each in ended()}

    asking = spans["asking"].context
    for name in ("test.EchoService/Echo", "test.EchoService/Repeat"):
        assert spans[name].context.trace_id == asking.trace_id
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == asking.span_id


async def test_calls_are_counted_by_method_and_status(stub: EchoStub) -> None:
    def counted(code: str) -> float:
        value: float = pipeline.CALLS.labels("test.EchoService/Echo", code)._value.get()
        return value

    before = {code: counted(code) for code in ("OK", "RESOURCE_EXHAUSTED", "INTERNAL")}
    await stub.Echo(text("hello"))
    for value in ("full", "full", "bug"):
        with pytest.raises(RemoteError):
            await stub.Echo(text(value))
    # The answer travels before the call is over at the server.
    while pipeline.IN_FLIGHT._value.get() > 0:
        await asyncio.sleep(0)

    assert {code: counted(code) - number for code, number in before.items()} == {
        "OK": 1,
        "RESOURCE_EXHAUSTED": 2,
        "INTERNAL": 1,
    }
