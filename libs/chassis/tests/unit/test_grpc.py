"""Both ends of gRPC, in process, over the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from chassis.clock import SystemClock
from chassis.errors import ArgosyError, DeadlineExceeded, InvalidRequest, Kind, RemoteFailure, Unavailable
from chassis.grpc import (
    STATUS,
    Channel,
    GrpcServer,
    from_duration,
    from_timestamp,
    pipeline,
    to_duration,
    to_timestamp,
)
from chassis.grpc.status import BY_VALUE
from chassis.tenancy import acting, current_caller
from chassis.testing import a_caller, a_principal, a_verifier, free_port
from chassis.testing.grpc import serving, serving_at
from google.protobuf.wrappers_pb2 import StringValue as Text
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

SERVICE = "test.Parrot"
SHAPES = {
    "Say": grpc.unary_unary_rpc_method_handler,
    "Repeat": grpc.unary_stream_rpc_method_handler,
    "Join": grpc.stream_unary_rpc_method_handler,
    "Answer": grpc.stream_stream_rpc_method_handler,
    "Write": grpc.unary_stream_rpc_method_handler,
    "Later": grpc.unary_unary_rpc_method_handler,
}


class Full(ArgosyError):
    """No seat is free."""

    kind, reason = Kind.EXHAUSTED, "FULL"


class Parrot:
    """One method of each shape."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self.cleaned = asyncio.Event()
        self.callers: list[Any] = []

    async def say(self, request: Text, context: Any) -> Text:
        self.callers.append(current_caller())
        match request.value:
            case "full":
                raise Full("no seat", param="seat", retry_after=timedelta(seconds=1.5))
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


def register(parrot: Parrot, server: Any) -> None:
    handlers = {
        name: shape(
            getattr(parrot, name.lower()),
            request_deserializer=Text.FromString,
            response_serializer=Text.SerializeToString,
        )
        for name, shape in SHAPES.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


class ParrotStub:
    """As a generated one."""

    def __init__(self, channel: Any) -> None:
        codec = {
            "request_serializer": Text.SerializeToString,
            "response_deserializer": Text.FromString,
            "_registered_method": True,
        }
        self.Say = channel.unary_unary(f"/{SERVICE}/Say", **codec)
        self.Repeat = channel.unary_stream(f"/{SERVICE}/Repeat", **codec)
        self.Join = channel.stream_unary(f"/{SERVICE}/Join", **codec)
        self.Answer = channel.stream_stream(f"/{SERVICE}/Answer", **codec)
        self.Write = channel.unary_stream(f"/{SERVICE}/Write", **codec)
        self.Later = channel.unary_unary(f"/{SERVICE}/Later", **codec)


def text(value: str) -> Text:
    return Text(value=value)


@pytest.fixture
async def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
async def stub(parrot: Parrot) -> AsyncIterator[ParrotStub]:
    async with serving((register, parrot, SERVICE)) as channel:
        with acting(a_caller()):
            yield ParrotStub(channel)


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(Kind) == set(BY_VALUE.values())


async def test_a_call_is_of_the_caller_who_made_it(stub: ParrotStub, parrot: Parrot) -> None:
    caller = a_caller(a_principal("ten_x", roles={"admin"}), "req_1")

    with acting(caller):
        answer = await stub.Say(text("hello"))

    assert answer.value == "hello!"
    assert parrot.callers == [caller]


async def test_an_error_arrives_with_all_it_says(stub: ParrotStub) -> None:
    with pytest.raises(RemoteFailure) as failure:
        await stub.Say(text("full"))

    error = failure.value
    assert (error.kind, error.reason, error.message, error.param) == (Kind.EXHAUSTED, "FULL", "no seat", "seat")
    assert error.retry_after == timedelta(seconds=1.5)


async def test_a_bug_is_told_to_nobody_but_the_log(stub: ParrotStub, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RemoteFailure) as failure:
        await stub.Say(text("bug"))

    assert (failure.value.kind, failure.value.message) == (Kind.INTERNAL, "internal error")
    assert "the secret of the database" in capsys.readouterr().out


async def test_a_call_without_a_principal_is_refused(parrot: Parrot) -> None:
    async with serving((register, parrot, SERVICE)) as channel:
        with pytest.raises(RemoteFailure) as failure:
            await ParrotStub(channel).Say(text("hello"))

    assert (failure.value.kind, failure.value.reason) == (Kind.UNAUTHENTICATED, "PRINCIPAL_INVALID")
    assert parrot.callers == []


FORGED = {"metadata": (("argosy-principal", "forged"),)}


@pytest.mark.parametrize(
    "ask",
    [
        lambda stub: stub.Say(text("a"), **FORGED),
        lambda stub: stub.Join(requests("a"), **FORGED),
        lambda stub: stub.Repeat(text("a"), **FORGED).read(),
        lambda stub: stub.Answer(requests("a"), **FORGED).read(),
    ],
)
async def test_a_forged_principal_is_refused_by_every_shape(
    parrot: Parrot, ask: Callable[[ParrotStub], Awaitable[Any]]
) -> None:
    async with serving((register, parrot, SERVICE)) as channel:
        with pytest.raises(RemoteFailure) as failure:
            await ask(ParrotStub(channel))

    assert failure.value.reason == "PRINCIPAL_INVALID"


async def test_health_and_reflection_need_no_principal(parrot: Parrot) -> None:
    async with (
        serving_at("127.0.0.1:0", [(register, parrot, SERVICE)]) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        listed = await listing.read()

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert SERVICE in {service.name for service in listed.list_services_response.service}


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


async def test_the_callers_deadline_ends_the_call(stub: ParrotStub, parrot: Parrot) -> None:
    with pytest.raises(DeadlineExceeded, match="test did not answer in time"):
        await stub.Say(text("hang"), timeout=0.05)
    with pytest.raises(DeadlineExceeded, match="test did not answer in time"):
        [answer async for answer in stub.Repeat(text("hang"), timeout=0.05)]

    await parrot.cleaned.wait()


async def test_a_caller_without_a_deadline_is_given_one(parrot: Parrot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "UNARY_SECONDS", 0.05)
    caller = a_caller()
    async with (
        serving_at("127.0.0.1:0", [(register, parrot, SERVICE)]) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await ParrotStub(channel).Say(text("hang"), metadata=(("argosy-principal", caller.token),))

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert parrot.cleaned.is_set()
    assert parrot.callers[0].request_id.startswith("req_")


async def test_bytes_that_are_no_message_are_the_callers_fault(stub: ParrotStub, parrot: Parrot) -> None:
    async with serving((register, parrot, SERVICE)) as channel:
        for call in (channel.unary_unary(f"/{SERVICE}/Say"), channel.unary_unary(f"/{SERVICE}/Join")):
            with pytest.raises(RemoteFailure) as failure:
                await call(b"\xff\xff")
            assert failure.value.reason == InvalidRequest.reason


async def test_a_message_over_the_limit_is_a_typed_error(stub: ParrotStub) -> None:
    with pytest.raises(RemoteFailure) as failure:
        await stub.Say(text("x" * 17 * 1024 * 1024))
    assert failure.value.kind is Kind.TOO_LARGE
    with pytest.raises(RemoteFailure):
        await stub.Say(text("large"))
    assert (await stub.Say(text("x" * 15 * 1024 * 1024))).value.endswith("x!")


async def test_a_method_that_is_not_there_is_a_typed_error(stub: ParrotStub, parrot: Parrot) -> None:
    with pytest.raises(RemoteFailure) as failure:
        await stub.Later(text("a"))
    assert failure.value.reason == "UNIMPLEMENTED"
    async with serving((register, parrot, SERVICE)) as channel:
        with pytest.raises(RemoteFailure) as failure:
            await channel.unary_unary("/test.Parrot/Sing")(b"")
    assert failure.value.reason == "UNIMPLEMENTED"


async def test_a_peer_that_is_away_is_unavailable_by_name(parrot: Parrot) -> None:
    async with Channel(f"127.0.0.1:{free_port()}", "the parrot") as channel:
        stub = ParrotStub(channel)
        with pytest.raises(Unavailable, match="the parrot does not answer"):
            await stub.Say(text("a"), timeout=0.1)
        with pytest.raises(Unavailable, match="the parrot does not answer"):
            await stub.Repeat(text("a"), timeout=0.1).read()
        with pytest.raises(Unavailable, match="the parrot does not answer"):
            await stub.Join(requests("a"), timeout=0.1)
        with pytest.raises(Unavailable, match="the parrot does not answer"):
            await stub.Answer(timeout=0.1).write(text("a"))


async def test_a_call_waits_for_a_peer_that_is_being_restarted(parrot: Parrot) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Channel(address, "the parrot") as channel:
        stub = ParrotStub(channel)
        with acting(a_caller()):
            async with serving_at(address, [(register, parrot, SERVICE)]):
                assert (await stub.Say(text("a"))).value == "a!"
            waiting = [asyncio.create_task(stub.Say(text(str(number)))) for number in range(5)]
            stream = stub.Answer(requests("s"))
            read = asyncio.create_task(stream.read())
            await asyncio.sleep(0)
            async with serving_at(address, [(register, parrot, SERVICE)]):
                assert [answer.value for answer in await asyncio.gather(*waiting)] == ["0!", "1!", "2!", "3!", "4!"]
                assert (await read).value == "s!"


async def test_a_peer_that_dies_within_a_call_is_unavailable(parrot: Parrot) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Channel(address, "the parrot") as channel:
        with acting(a_caller()):
            async with serving_at(address, [(register, parrot, SERVICE)]):
                call = asyncio.create_task(ParrotStub(channel).Say(text("hang")))
                await parrot.reached.wait()
            with pytest.raises(Unavailable, match="the parrot does not answer"):
                await call


async def test_a_drain_lets_calls_end_and_says_so(parrot: Parrot) -> None:
    server = GrpcServer("127.0.0.1:0", [(register, parrot, SERVICE)], a_verifier(), SystemClock())
    await server.start()
    async with Channel(f"127.0.0.1:{server.port}", "test") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        with acting(a_caller()):
            call = asyncio.create_task(ParrotStub(channel).Say(text("hang")))
            await parrot.reached.wait()
            stopping = asyncio.create_task(server.stop())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch.cancel()
            parrot.released.set()

            assert (await call).value == "hang!"
    await stopping


async def test_a_taken_port_is_an_error_at_start(parrot: Parrot) -> None:
    async with serving_at("127.0.0.1:0", [(register, parrot, SERVICE)]) as server:
        second = GrpcServer(f"127.0.0.1:{server.port}", [(register, parrot, SERVICE)], a_verifier(), SystemClock())
        with pytest.raises(RuntimeError, match="cannot listen on"):
            await second.start()


def test_times_survive_the_wire_to_the_microsecond() -> None:
    length = timedelta(days=1, seconds=2, microseconds=3)
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)

    assert from_duration(to_duration(length)) == length
    assert from_timestamp(to_timestamp(moment)) == moment
    with pytest.raises(ValueError, match="zone"):
        to_timestamp(datetime(2026, 1, 1))  # noqa: DTZ001


async def requests(*values: str) -> AsyncIterator[Text]:
    for value in values:
        yield text(value)
