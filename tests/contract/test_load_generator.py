"""The load generator of the bench with its own upstream, in one process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.load.generate import Load, Plan
from tests.load.payloads import chat_body
from tests.load.upstream import Provider


class DisconnectingServer(asyncio.Protocol):
    """A server that closes the connection at each request; subclasses override `answer`."""

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


class SlowServer(DisconnectingServer):
    """A server that responds after 50 ms."""

    def answer(self) -> None:
        complete = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        asyncio.get_running_loop().call_later(0.05, self.transport.write, complete)


@asynccontextmanager
async def serving(make: Callable[[], DisconnectingServer | Provider]) -> AsyncIterator[int]:
    """Serve on a free port, and close all connections at the end."""
    connections: list[DisconnectingServer | Provider] = []

    def connection() -> DisconnectingServer | Provider:
        connections.append(make())
        return connections[-1]

    async with await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for one in connections:
            one.abort()
        await asyncio.sleep(0)  # sockets close in the next iteration of the loop


@pytest.fixture
async def port() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    async with serving(lambda: Provider(loop)) as port:
        yield port


@pytest.fixture
def complete(tmp_path: Path) -> str:
    path = tmp_path / "whole.json"
    path.write_bytes(chat_body("instant"))
    return str(path)


@pytest.fixture
def streamed(tmp_path: Path) -> str:
    path = tmp_path / "stream.json"
    path.write_bytes(chat_body("instant", stream=True))
    return str(path)


async def test_a_closed_loop_stops_after_the_given_number_of_requests(port: int, complete: str) -> None:
    plan = Plan(port, "/instant/v1/chat/completions", complete, connections=4, requests=40, seconds=30)

    figures = await Load(plan).run()

    assert (figures["answers"], figures["errors"]) == (40, 0)
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p100_ms"]


async def test_every_event_of_a_stream_is_counted(port: int, streamed: str) -> None:
    plan = Plan(port, "/instant/v1/chat/completions", streamed, connections=2, requests=6, seconds=30, streamed=True)

    figures = await Load(plan).run()

    # The role, 100 chunks, the finish reason, the usage, the end mark.
    assert (figures["answers"], figures["errors"], figures["chunks"]) == (6, 0, 6 * 104)


async def test_a_fixed_rate_keeps_its_schedule(port: int, complete: str) -> None:
    plan = Plan(port, "/instant/v1/chat/completions", complete, connections=4, rate=200, seconds=0.2)

    figures = await Load(plan).run()

    assert (figures["answers"], figures["errors"]) == (40, 0)
    assert figures["seconds"] >= 0.19


async def test_latency_counts_from_when_a_request_was_due(complete: str) -> None:
    """One connection and a slow server: the wait for the connection counts."""
    async with serving(SlowServer) as port:
        figures = await Load(Plan(port, "/", complete, connections=1, rate=1000, requests=5, seconds=1)).run()

    assert figures["answers"] == 5
    assert figures["latency_p100_ms"] >= 5 * 50 - 5


async def test_lost_connections_are_errors_and_are_opened_again(complete: str) -> None:
    async with serving(DisconnectingServer) as port:
        figures = await Load(Plan(port, "/", complete, connections=1, requests=3, seconds=5)).run()

    assert (figures["answers"], figures["errors"]) == (0, 3)
    assert any("broke" in problem for problem in figures["problems"])


async def test_no_server_is_an_immediate_error(complete: str) -> None:
    with pytest.raises(SystemExit, match="no server answers"):
        await Load(Plan(1, "/", complete, connections=1)).run()
