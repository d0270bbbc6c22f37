"""The bench's load generator against its own upstream, in one process: what is sent is what is counted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.load.generate import Load, Plan
from tests.load.upstream import Provider
from tests.load.words import chat_body


class HangUp(asyncio.Protocol):
    """A server that leaves as soon as it is asked; others differ in `answer`."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.answer()

    def answer(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.transport.abort()


class Slow(HangUp):
    """A server that takes 50 ms for every answer."""

    def answer(self) -> None:
        whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        asyncio.get_running_loop().call_later(0.05, self.transport.write, whole)


@asynccontextmanager
async def serving(make: Callable[[], HangUp | Provider]) -> AsyncIterator[int]:
    """Serve on a free port, and close every connection in the end."""
    connections: list[HangUp | Provider] = []

    def connection() -> HangUp | Provider:
        connections.append(make())
        return connections[-1]

    async with await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for one in connections:
            one.abort()
        await asyncio.sleep(0)  # sockets are closed a turn later


@pytest.fixture
async def port() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    async with serving(lambda: Provider(loop)) as port:
        yield port


@pytest.fixture
def whole(tmp_path: Path) -> str:
    path = tmp_path / "whole.json"
    path.write_bytes(chat_body("instant"))
    return str(path)


@pytest.fixture
def streamed(tmp_path: Path) -> str:
    path = tmp_path / "stream.json"
    path.write_bytes(chat_body("instant", stream=True))
    return str(path)


async def test_a_closed_loop_stops_after_the_requests_that_were_asked_for(port: int, whole: str) -> None:
    plan = Plan(port, "/instant/v1/chat/completions", whole, connections=4, requests=40, seconds=30)

    figures = await Load(plan).run()

    assert (figures["answers"], figures["errors"]) == (40, 0)
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p100_ms"]


async def test_every_event_of_a_stream_is_counted(port: int, streamed: str) -> None:
    plan = Plan(port, "/instant/v1/chat/completions", streamed, connections=2, requests=6, seconds=30, streamed=True)

    figures = await Load(plan).run()

    # The role, 100 chunks, the reason of the end, the usage, the end mark.
    assert (figures["answers"], figures["errors"], figures["chunks"]) == (6, 0, 6 * 104)


async def test_a_fixed_rate_keeps_its_schedule(port: int, whole: str) -> None:
    plan = Plan(port, "/instant/v1/chat/completions", whole, connections=4, rate=200, seconds=0.2)

    figures = await Load(plan).run()

    assert (figures["answers"], figures["errors"]) == (40, 0)
    assert figures["seconds"] >= 0.19


async def test_latency_counts_from_when_a_request_was_due(whole: str) -> None:
    """One connection and a server that takes a while: those who wait for it waited since they were due."""
    async with serving(Slow) as port:
        figures = await Load(Plan(port, "/", whole, connections=1, rate=1000, requests=5, seconds=1)).run()

    assert figures["answers"] == 5
    assert figures["latency_p100_ms"] >= 5 * 50 - 5


async def test_connections_that_break_are_errors_and_are_opened_again(whole: str) -> None:
    async with serving(HangUp) as port:
        figures = await Load(Plan(port, "/", whole, connections=1, requests=3, seconds=5)).run()

    assert (figures["answers"], figures["errors"]) == (0, 3)
    assert any("broke" in problem for problem in figures["problems"])


async def test_nobody_there_is_said_at_once(whole: str) -> None:
    with pytest.raises(SystemExit, match="nobody answers"):
        await Load(Plan(1, "/", whole, connections=1)).run()
