"""One stream to each replica behind a name; new replicas get a share, removed ones are drained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import grpc
import pytest
from argosy.exchange.v1.exchange_pb2 import Frame
from chassis.errors import Unavailable
from chassis.grpc import Channel, ExchangeFull
from chassis.tenancy import as_caller
from chassis.testing import a_caller, free_port
from chassis.testing.grpc import serving_at
from chassis.testing.network import TcpProxy
from rpc import channel as channels
from rpc import client_stream, replicas

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, text
from libs.rpc.tests.leaks import no_leak
from libs.rpc.tests.raw_peer import RawStream, forever, raw_server


class Names:
    """A resolver whose addresses the test sets."""

    def __init__(self) -> None:
        self.known: Sequence[str] | OSError = []
        self.asked = 0

    async def resolver(self, target: str) -> Sequence[str]:
        self.asked += 1
        if isinstance(self.known, OSError):
            raise self.known
        return self.known


class ServerPool:
    """Echo services, each a replica."""

    def __init__(self) -> None:
        self.services = [EchoService() for _ in range(3)]
        self.addresses: list[str] = []

    def counts(self) -> list[int]:
        return [len(echo.callers) for echo in self.services]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    monkeypatch.setattr(replicas, "RESOLVE_INTERVAL_SECONDS", 0.05)
    return Names()


@pytest.fixture
async def pool() -> AsyncIterator[ServerPool]:
    pool = ServerPool()
    async with AsyncExitStack() as stack:
        for echo in pool.services:
            server = await stack.enter_async_context(serving_at("127.0.0.1:0", [(register, echo, SERVICE)]))
            pool.addresses.append(f"127.0.0.1:{server.port}")
        with as_caller(a_caller()):
            yield pool


async def open_to(channel: Channel, count: int) -> None:
    async with asyncio.timeout(30):
        while sum(stream.open for stream in channel._replicas._streams) != count:
            await asyncio.sleep(0.005)


async def ask(channel: Channel, times: int, at_once: int = 8) -> None:
    stub = EchoStub(channel)
    for _ in range(times // at_once):
        await asyncio.gather(*(stub.Echo(text("a")) for _ in range(at_once)))


async def test_two_replicas_share_within_a_fifth(names: Names, pool: ServerPool) -> None:
    names.known = pool.addresses[:2]
    async with Channel("echo:1", "echo", resolver=names.resolver) as channel:
        await open_to(channel, 2)
        await ask(channel, 400)

    first, second, _ = pool.counts()
    assert first + second == 400
    assert abs(first - second) <= 80


async def test_a_replica_that_appears_gets_its_share(names: Names, pool: ServerPool) -> None:
    names.known = pool.addresses[:2]
    async with Channel("echo:1", "echo", resolver=names.resolver) as channel:
        await open_to(channel, 2)
        names.known = pool.addresses
        await open_to(channel, 3)
        await ask(channel, 600)

    assert min(pool.counts()) >= 160


async def test_a_replica_that_leaves_the_name_finishes_what_it_has_and_gets_nothing_new(
    names: Names, pool: ServerPool
) -> None:
    async with no_leak():
        names.known = pool.addresses[:1]
        async with Channel("echo:1", "echo", resolver=names.resolver) as channel:
            await open_to(channel, 1)
            hanging = asyncio.create_task(EchoStub(channel).Echo(text("hang")))
            await pool.services[0].reached.wait()
            names.known = pool.addresses[1:2]
            while [stream.open for stream in channel._replicas._streams] != [False, True]:
                await asyncio.sleep(0.005)
            await ask(channel, 40)
            pool.services[0].released.set()
            assert (await hanging).value == "hang!"
            while channel._replicas._tasks.keys() != {pool.addresses[1]}:
                await asyncio.sleep(0.005)

    assert pool.counts() == [1, 40, 0]


async def test_a_replica_that_comes_back_while_it_still_finishes_gets_calls_again(
    names: Names, pool: ServerPool
) -> None:
    names.known = pool.addresses[:1]
    async with Channel("echo:1", "echo", resolver=names.resolver) as channel:
        await open_to(channel, 1)
        hanging = asyncio.create_task(EchoStub(channel).Echo(text("hang")))
        await pool.services[0].reached.wait()
        names.known = pool.addresses[1:2]
        while [stream.open for stream in channel._replicas._streams] != [False, True]:
            await asyncio.sleep(0.005)
        names.known = pool.addresses[:2]
        await open_to(channel, 2)
        pool.services[0].released.set()
        await hanging


async def test_a_failed_resolution_keeps_the_last_addresses(names: Names, pool: ServerPool) -> None:
    names.known = pool.addresses[:2]
    async with Channel("echo:1", "echo", resolver=names.resolver) as channel:
        await open_to(channel, 2)
        names.known = OSError("no DNS")
        before = names.asked
        while names.asked < before + 3:
            await asyncio.sleep(0.01)
        await ask(channel, 40)

    assert min(pool.counts()[:2]) >= 16


async def test_the_least_loaded_replica_is_chosen(names: Names, pool: ServerPool) -> None:
    names.known = pool.addresses[:2]
    async with Channel("echo:1", "echo", resolver=names.resolver) as channel:
        await open_to(channel, 2)
        stub = EchoStub(channel)
        # Both hang on: 5 at one replica, as calls of its own, then none at the other.
        first, second = channel._replicas._streams
        second.open = False
        hanging = [asyncio.create_task(stub.Echo(text("hang"))) for _ in range(5)]
        await asyncio.sleep(0)
        second.open = True
        for _ in range(20):
            await stub.Echo(text("a"))
        assert first.load == 5
        for echo in pool.services:
            echo.released.set()
        await asyncio.gather(*hanging)

    assert sorted(pool.counts()) == [0, 5, 20]


async def test_a_cut_stream_is_opened_again(names: Names, pool: ServerPool) -> None:
    async with (
        TcpProxy(int(pool.addresses[0].rpartition(":")[2])) as line,
        Channel(f"127.0.0.1:{line.port}", "echo") as channel,
    ):
        await open_to(channel, 1)
        await line.cut()
        await open_to(channel, 0)
        await line.mend()
        await open_to(channel, 1)
        await ask(channel, 8)


async def test_streams_are_reopened_with_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []

    def at_once(low: float, high: float) -> float:
        bounds.append(high)
        return low

    monkeypatch.setattr("random.uniform", at_once)
    monkeypatch.setattr(replicas, "monotonic", lambda: 0.0)  # no stream lasts
    enough = asyncio.Event()

    async def leave(_: RawStream) -> None:
        if len(bounds) >= 7:
            enough.set()

    async with raw_server(leave) as port, Channel(f"127.0.0.1:{port}", "echo"), asyncio.timeout(30):
        await enough.wait()

    assert bounds[:7] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@pytest.mark.parametrize("metadata", [None, (("argosy-exchange", "2"),)])
async def test_a_server_of_another_version_is_unavailable(metadata: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_stream, "OPEN_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(channels, "CONNECT_TIMEOUT_SECONDS", 0.5)
    async with (
        no_leak(),
        raw_server(forever, metadata=metadata) as port,
        Channel(f"127.0.0.1:{port}", "echo") as channel,
    ):
        with pytest.raises(Unavailable):
            await EchoStub(channel).Echo(text("a"))


async def test_a_server_without_an_exchange_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CONNECT_TIMEOUT_SECONDS", 0.3)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Channel(f"127.0.0.1:{port}", "echo") as channel:
        with pytest.raises(Unavailable):
            await EchoStub(channel).Echo(text("a"))
    await server.stop(0)


async def test_more_calls_than_a_stream_carries_are_refused_by_name(
    pool: ServerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_stream, "MAX_CALLS", 5)
    monkeypatch.setattr(channels, "MAX_CALLS", 5)
    async with no_leak(), Channel(pool.addresses[0], "echo") as channel:
        await open_to(channel, 1)
        stub = EchoStub(channel)
        hanging = [asyncio.create_task(stub.Echo(text("hang"))) for _ in range(5)]
        await pool.services[0].reached.wait()
        with pytest.raises(ExchangeFull):
            await stub.Echo(text("a"))
        pool.services[0].released.set()
        await asyncio.gather(*hanging)
        assert (await stub.Echo(text("a"))).value == "a!"


async def test_more_calls_than_may_wait_for_a_peer_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MAX_CALLS", 5)
    monkeypatch.setattr(channels, "CONNECT_TIMEOUT_SECONDS", 0.2)
    async with Channel(f"127.0.0.1:{free_port()}", "echo") as channel:
        endings = await asyncio.gather(*(EchoStub(channel).Echo(text("a")) for _ in range(8)), return_exceptions=True)
        assert channel._unassigned == {}

    assert [type(ending) for ending in endings] == [Unavailable] * 5 + [ExchangeFull] * 3


async def answer_strangers(raw: RawStream) -> None:
    frame = await raw.called()
    for call_id in (0, 77, 2**63):
        await raw.send(Frame(call_id=call_id, payloads=[b"a"], end=call_id > 0))
    await raw.answer(frame)


async def answer_too_often(raw: RawStream) -> None:
    frame = await raw.called()
    await raw.answer(frame)
    await raw.answer(frame)
    await raw.answer(await raw.called(), "second")
    await forever(raw)


async def test_frames_of_unknown_calls_do_not_affect_others() -> None:
    async with no_leak(), raw_server(answer_strangers) as port, Channel(f"127.0.0.1:{port}", "echo") as channel:
        assert (await EchoStub(channel).Echo(text("a"))).value == "raw"


async def test_a_second_end_of_a_call_is_ignored() -> None:
    async with no_leak(), raw_server(answer_too_often) as port, Channel(f"127.0.0.1:{port}", "echo") as channel:
        assert (await EchoStub(channel).Echo(text("a"))).value == "raw"
        assert (await EchoStub(channel).Echo(text("a"))).value == "second"


async def test_a_server_that_exceeds_the_window_loses_that_call() -> None:
    async def flood(raw: RawStream) -> None:
        frame = await raw.called()
        for _ in range(3):
            await raw.send(Frame(call_id=frame.call_id, payloads=[bytes(200_000)]))
        await raw.answer(await raw.called(), "well")
        await forever(raw)

    async with no_leak(), raw_server(flood) as port, Channel(f"127.0.0.1:{port}", "echo") as channel:
        call = EchoStub(channel).Repeat(text("a"))
        while not call.ended:
            await asyncio.sleep(0.005)
        with pytest.raises(Unavailable):
            [message async for message in call]
        del call
        assert (await EchoStub(channel).Echo(text("a"))).value == "well"
