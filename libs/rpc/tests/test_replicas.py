"""One stream to each replica behind a name; who appears gets a share, who leaves is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import grpc
import pytest
from argosy.exchange.v1.exchange_pb2 import Frame
from chassis.errors import Unavailable
from chassis.grpc import Channel
from chassis.grpc.exchange import channel as channels
from chassis.grpc.exchange import replicas, stream
from chassis.grpc.exchange.channel import ExchangeFull
from chassis.tenancy import as_caller
from chassis.testing import a_caller, free_port
from chassis.testing.grpc import serving_at
from chassis.testing.network import TcpProxy

from libs.chassis.tests.leaks import no_leak
from libs.chassis.tests.parrot import SERVICE, Parrot, ParrotStub, register, text
from libs.chassis.tests.raw import RawStream, forever, raw_server


class Names:
    """A DNS that says what a test wants."""

    def __init__(self) -> None:
        self.known: Sequence[str] | OSError = []
        self.asked = 0

    async def look_up(self, target: str) -> Sequence[str]:
        self.asked += 1
        if isinstance(self.known, OSError):
            raise self.known
        return self.known


class Flock:
    """Parrots, each a replica."""

    def __init__(self) -> None:
        self.parrots = [Parrot() for _ in range(3)]
        self.addresses: list[str] = []

    def counts(self) -> list[int]:
        return [len(parrot.callers) for parrot in self.parrots]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    monkeypatch.setattr(replicas, "LOOK_UP_SECONDS", 0.05)
    return Names()


@pytest.fixture
async def flock() -> AsyncIterator[Flock]:
    flock = Flock()
    async with AsyncExitStack() as stack:
        for parrot in flock.parrots:
            server = await stack.enter_async_context(serving_at("127.0.0.1:0", [(register, parrot, SERVICE)]))
            flock.addresses.append(f"127.0.0.1:{server.port}")
        with as_caller(a_caller()):
            yield flock


async def open_to(channel: Channel, count: int) -> None:
    async with asyncio.timeout(5):
        while sum(stream.open for stream in channel._replicas._streams) != count:
            await asyncio.sleep(0.005)


async def ask(channel: Channel, times: int, at_once: int = 8) -> None:
    stub = ParrotStub(channel)
    for _ in range(times // at_once):
        await asyncio.gather(*(stub.Say(text("a")) for _ in range(at_once)))


async def test_two_replicas_share_within_a_fifth(names: Names, flock: Flock) -> None:
    names.known = flock.addresses[:2]
    async with Channel("parrot:1", "parrot", look_up=names.look_up) as channel:
        await open_to(channel, 2)
        await ask(channel, 400)

    first, second, _ = flock.counts()
    assert first + second == 400
    assert abs(first - second) <= 80


async def test_a_replica_that_appears_gets_its_share(names: Names, flock: Flock) -> None:
    names.known = flock.addresses[:2]
    async with Channel("parrot:1", "parrot", look_up=names.look_up) as channel:
        await open_to(channel, 2)
        names.known = flock.addresses
        await open_to(channel, 3)
        await ask(channel, 600)

    assert min(flock.counts()) >= 160


async def test_a_replica_that_leaves_the_name_finishes_what_it_has_and_gets_nothing_new(
    names: Names, flock: Flock
) -> None:
    async with no_leak():
        names.known = flock.addresses[:1]
        async with Channel("parrot:1", "parrot", look_up=names.look_up) as channel:
            await open_to(channel, 1)
            hanging = asyncio.create_task(ParrotStub(channel).Say(text("hang")))
            await flock.parrots[0].reached.wait()
            names.known = flock.addresses[1:2]
            while [stream.open for stream in channel._replicas._streams] != [False, True]:
                await asyncio.sleep(0.005)
            await ask(channel, 40)
            flock.parrots[0].released.set()
            assert (await hanging).value == "hang!"
            while channel._replicas._keepers.keys() != {flock.addresses[1]}:
                await asyncio.sleep(0.005)

    assert flock.counts() == [1, 40, 0]


async def test_a_replica_that_comes_back_while_it_still_finishes_gets_calls_again(names: Names, flock: Flock) -> None:
    names.known = flock.addresses[:1]
    async with Channel("parrot:1", "parrot", look_up=names.look_up) as channel:
        await open_to(channel, 1)
        hanging = asyncio.create_task(ParrotStub(channel).Say(text("hang")))
        await flock.parrots[0].reached.wait()
        names.known = flock.addresses[1:2]
        while [stream.open for stream in channel._replicas._streams] != [False, True]:
            await asyncio.sleep(0.005)
        names.known = flock.addresses[:2]
        await open_to(channel, 2)
        flock.parrots[0].released.set()
        await hanging


async def test_a_name_that_nobody_knows_any_more_changes_nothing(names: Names, flock: Flock) -> None:
    names.known = flock.addresses[:2]
    async with Channel("parrot:1", "parrot", look_up=names.look_up) as channel:
        await open_to(channel, 2)
        names.known = OSError("no DNS")
        before = names.asked
        while names.asked < before + 3:
            await asyncio.sleep(0.01)
        await ask(channel, 40)

    assert min(flock.counts()[:2]) >= 16


async def test_the_least_loaded_replica_is_chosen(names: Names, flock: Flock) -> None:
    names.known = flock.addresses[:2]
    async with Channel("parrot:1", "parrot", look_up=names.look_up) as channel:
        await open_to(channel, 2)
        stub = ParrotStub(channel)
        # Both hang on: 5 at one replica, as calls of its own, then none at the other.
        first, second = channel._replicas._streams
        second.open = False
        hanging = [asyncio.create_task(stub.Say(text("hang"))) for _ in range(5)]
        await asyncio.sleep(0)
        second.open = True
        for _ in range(20):
            await stub.Say(text("a"))
        assert first.load == 5
        for parrot in flock.parrots:
            parrot.released.set()
        await asyncio.gather(*hanging)

    assert sorted(flock.counts()) == [0, 5, 20]


async def test_a_cut_stream_is_opened_again(names: Names, flock: Flock) -> None:
    async with (
        TcpProxy(int(flock.addresses[0].rpartition(":")[2])) as line,
        Channel(f"127.0.0.1:{line.port}", "parrot") as channel,
    ):
        await open_to(channel, 1)
        await line.cut()
        await open_to(channel, 0)
        await line.mend()
        await open_to(channel, 1)
        await ask(channel, 8)


async def test_streams_are_opened_with_more_and_more_time_between() -> None:
    opened = 0

    async def leave(_: RawStream) -> None:
        nonlocal opened
        opened += 1

    async with raw_server(leave) as port, Channel(f"127.0.0.1:{port}", "parrot"):
        await asyncio.sleep(1.5)

    assert 2 <= opened <= 20


@pytest.mark.parametrize("metadata", [None, (("argosy-exchange", "2"),)])
async def test_a_server_of_another_version_is_unavailable(metadata: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "OPEN_SECONDS", 0.2)
    monkeypatch.setattr(channels, "PATIENCE_SECONDS", 0.5)
    async with (
        no_leak(),
        raw_server(forever, metadata=metadata) as port,
        Channel(f"127.0.0.1:{port}", "parrot") as channel,
    ):
        with pytest.raises(Unavailable):
            await ParrotStub(channel).Say(text("a"))


async def test_a_server_without_an_exchange_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "PATIENCE_SECONDS", 0.3)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Channel(f"127.0.0.1:{port}", "parrot") as channel:
        with pytest.raises(Unavailable):
            await ParrotStub(channel).Say(text("a"))
    await server.stop(0)


async def test_more_calls_than_a_stream_carries_are_refused_by_name(
    flock: Flock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CALLS", 5)
    monkeypatch.setattr(channels, "CALLS", 5)
    async with no_leak(), Channel(flock.addresses[0], "parrot") as channel:
        await open_to(channel, 1)
        stub = ParrotStub(channel)
        hanging = [asyncio.create_task(stub.Say(text("hang"))) for _ in range(5)]
        await flock.parrots[0].reached.wait()
        with pytest.raises(ExchangeFull):
            await stub.Say(text("a"))
        flock.parrots[0].released.set()
        await asyncio.gather(*hanging)
        assert (await stub.Say(text("a"))).value == "a!"


async def test_more_calls_than_may_wait_for_a_peer_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CALLS", 5)
    monkeypatch.setattr(channels, "PATIENCE_SECONDS", 0.2)
    async with Channel(f"127.0.0.1:{free_port()}", "parrot") as channel:
        endings = await asyncio.gather(*(ParrotStub(channel).Say(text("a")) for _ in range(8)), return_exceptions=True)
        assert channel._waiting == {}

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


async def test_a_server_that_answers_calls_nobody_made_harms_none_that_were() -> None:
    async with no_leak(), raw_server(answer_strangers) as port, Channel(f"127.0.0.1:{port}", "parrot") as channel:
        assert (await ParrotStub(channel).Say(text("a"))).value == "raw"


async def test_a_server_that_answers_twice_is_heard_once() -> None:
    async with no_leak(), raw_server(answer_too_often) as port, Channel(f"127.0.0.1:{port}", "parrot") as channel:
        assert (await ParrotStub(channel).Say(text("a"))).value == "raw"
        assert (await ParrotStub(channel).Say(text("a"))).value == "second"


async def test_a_server_that_sends_beyond_what_it_may_loses_that_call() -> None:
    async def flood(raw: RawStream) -> None:
        frame = await raw.called()
        for _ in range(3):
            await raw.send(Frame(call_id=frame.call_id, payloads=[bytes(200_000)]))
        await raw.answer(await raw.called(), "well")
        await forever(raw)

    async with no_leak(), raw_server(flood) as port, Channel(f"127.0.0.1:{port}", "parrot") as channel:
        call = ParrotStub(channel).Repeat(text("a"))
        while not call.over:
            await asyncio.sleep(0.005)
        with pytest.raises(Unavailable):
            [message async for message in call]
        del call
        assert (await ParrotStub(channel).Say(text("a"))).value == "well"
