"""Drain: calls in flight end, new ones are refused and retried elsewhere, and none is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from argosy.exchange.v1.exchange_pb2 import Frame
from chassis.clock import SystemClock
from chassis.grpc import Channel, GrpcServer
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_verifier
from chassis.testing.grpc import serving_at
from rpc.server import LINGER_SECONDS

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, text
from libs.rpc.tests.leaks import no_leak
from libs.rpc.tests.raw_peer import begin, raw_client


def a_server(echo: EchoService, grace: timedelta = timedelta(seconds=60)) -> GrpcServer:
    return GrpcServer("127.0.0.1:0", [(register, echo, SERVICE)], a_verifier(), SystemClock(), grace)


async def test_a_call_sent_as_the_drain_begins_is_refused_and_not_lost(echo: EchoService) -> None:
    server = a_server(echo)
    await server.start()
    async with raw_client(server.port) as client:
        assert await client.ask(1) == "a!"
        stopping = asyncio.create_task(server.stop())
        drain = await client.frame()
        # Sent before the peer could know.
        await client.send(begin(2, "Echo", "late"))
        refused = await client.end(2)
        await client.call.done_writing()
        await stopping

    assert (drain.call_id, drain.end) == (0, True)
    assert refused.refused
    assert [caller.request_id for caller in echo.callers] != []
    assert len(echo.callers) == 1


async def test_a_peer_that_does_not_end_its_stream_delays_a_drain_by_a_second_at_most(echo: EchoService) -> None:
    assert LINGER_SECONDS == 1
    server = a_server(echo, grace=timedelta(seconds=600))
    await server.start()
    async with raw_client(server.port) as client:
        await client.ask(1)
        async with asyncio.timeout(30):  # far more than the second, and far less than the grace
            await server.stop()


async def test_calls_in_flight_end_and_new_ones_go_elsewhere(echo: EchoService) -> None:
    other = EchoService()
    async with no_leak(), serving_at("127.0.0.1:0", [(register, other, SERVICE)]) as stays:
        leaves = a_server(echo)
        await leaves.start()
        async with Channel(f"127.0.0.1:{leaves.port},127.0.0.1:{stays.port}", "echo") as channel:
            stub = EchoStub(channel)
            while len(channel._replicas._streams) < 2:
                await asyncio.sleep(0.01)
            with as_caller(a_caller()):
                hanging = [asyncio.create_task(stub.Echo(text("hang"))) for _ in range(2)]
                await asyncio.gather(echo.reached.wait(), other.reached.wait())
                printed = [asyncio.create_task(stub.Echo(text(str(number)))) for number in range(50)]
                stopping = asyncio.create_task(leaves.stop())
                printed += [asyncio.create_task(stub.Echo(text(str(number)))) for number in range(50, 100)]
                await asyncio.gather(*printed)
                before = len(echo.callers)
                await asyncio.gather(*(stub.Echo(text("more")) for _ in range(20)))
                assert len(echo.callers) == before
                echo.released.set()
                other.released.set()
                assert {(await call).value for call in hanging} == {"hang!"}
                await stopping


@pytest.mark.timeout(60)
async def test_no_call_fails_while_replicas_restart_in_turn(echo: EchoService) -> None:
    async def restart(server: GrpcServer) -> GrpcServer:
        await server.stop()
        again = GrpcServer(
            f"127.0.0.1:{server.port}", [(register, echo, SERVICE)], a_verifier(), SystemClock(), timedelta(seconds=60)
        )
        await again.start()
        return again

    servers = [a_server(echo) for _ in range(2)]
    await asyncio.gather(*(server.start() for server in servers))
    async with Channel(",".join(f"127.0.0.1:{server.port}" for server in servers), "echo") as channel:
        stub = EchoStub(channel)
        await channel.channel_ready()
        done = asyncio.Event()

        async def chatter() -> int:
            number = 0
            with as_caller(a_caller()):
                while not done.is_set():
                    assert (await stub.Echo(text(str(number)))).value == f"{number}!"
                    number += 1
            return number

        talkers = [asyncio.create_task(chatter()) for _ in range(4)]
        for place in (0, 1, 0):
            while len(channel._replicas._streams) < 2:
                await asyncio.sleep(0.01)
            servers[place] = await restart(servers[place])
        done.set()
        counts = await asyncio.gather(*talkers)
    await asyncio.gather(*(server.stop() for server in servers))

    assert min(counts) > 10


async def test_a_draining_client_gets_its_responses(echo: EchoService) -> None:
    async with serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server, raw_client(server.port) as client:
        await client.send(begin(1, "Echo", "hang"))
        await echo.reached.wait()
        await client.send(Frame(end=True))
        echo.released.set()

        assert (await client.end(1)).code == 0
