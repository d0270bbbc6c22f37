from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from argosy_dev.fleet import readiness
from argosy_dev.fleet.ports import LOOPBACK, assign
from argosy_dev.fleet.process_spec import Probe


@asynccontextmanager
async def responding(response: bytes, *, hang: bool = False) -> AsyncIterator[int]:
    """Send one response to any request; with `hang`, only after the client has closed the connection."""
    closed: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed.append(asyncio.Event())
        await reader.read(-1 if hang else 1)
        writer.write(response)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        closed[-1].set()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*(event.wait() for event in closed))


def probe_of(kind: str, port: int) -> Probe:
    if kind == "http":
        return readiness.http(port, "/readyz")
    probe: Probe = {"redis": readiness.redis, "kafka": readiness.kafka, "postgres": readiness.postgres}[kind](
        LOOPBACK, port
    )
    return probe


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        ("redis", b"+PONG\r\n"),
        ("redis", b"-NOAUTH Authentication required.\r\n"),
        ("kafka", b"\0\0\0\x0a\0\0\0\x07\0\0\0\0\0\0"),
        ("postgres", b"R\0\0\0\x17"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
)
async def test_a_server_with_the_expected_response_is_ready(kind: str, response: bytes) -> None:
    async with responding(response) as port:
        assert await probe_of(kind, port)()


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n"),
        ("kafka", b"\0\0\0\x0a\0\0\0\x07\0\x23\0\0\0\0"),
        ("postgres", b"E\0\0\0\x17the database system is starting up"),
        ("http", b"HTTP/1.1 503 Service Unavailable\r\n\r\n"),
        ("http", b""),
    ],
)
async def test_a_starting_server_is_not_ready(kind: str, response: bytes) -> None:
    async with responding(response) as port:
        assert not await probe_of(kind, port)()


@pytest.mark.parametrize("kind", ["redis", "kafka", "postgres", "http"])
async def test_a_closed_port_is_not_ready(kind: str) -> None:
    assert not await probe_of(kind, assign(["unused"], {})["unused"])()


async def test_a_server_that_hangs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_TIMEOUT_SECONDS", 0.05)
    async with responding(b"+PONG\r\n", hang=True) as port:
        assert not await readiness.redis(LOOPBACK, port)()
