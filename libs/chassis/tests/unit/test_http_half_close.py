"""Clients that close their half, leave, or send several requests at once get what they asked for, and no more."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest
from chassis.http import Receive, Scope, Send, read_body, send_json
from chassis.http.connections import REJECTED

from libs.chassis.tests.raw_http import GET, POST, Client, connected, served


async def test_a_client_that_closed_its_half_is_answered() -> None:
    async def slow(_scope: Scope, receive: Receive, send: Send) -> None:
        size = len(await read_body(receive, 1000))
        await asyncio.sleep(0.2)
        await send_json(send, 200, b"%d" % size)

    async with served(slow) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc" + GET)
        client.writer.write_eof()
        assert await client.response() == (200, 3)
        assert await client.response() == (200, 0)
        assert await client.closed() == b""


async def test_a_client_that_has_left_is_seen_after_the_next_chunk() -> None:
    chunk, left = asyncio.Event(), asyncio.Event()

    async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await chunk.wait()
        await send({"type": "http.response.body", "body": b"next", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with served(stream) as server:
        async with connected(server) as client:
            await client.send(GET)
            await client.reader.readuntil(b"\r\n\r\n")
            client.writer.close()
            await client.writer.wait_closed()
        await asyncio.sleep(0.1)
        chunk.set()
        async with asyncio.timeout(30):
            await left.wait()


async def test_an_incomplete_request_of_a_client_that_closed_its_half_ends() -> None:
    async with served() as server:
        for sent in (b"GET /", POST + b"abc"):
            async with connected(server) as client:
                await client.send(sent)
                client.writer.write_eof()
                assert await client.closed() == b""


async def test_a_bad_request_behind_a_good_one_does_not_take_its_answer() -> None:
    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.4)
        await send_json(send, 200, b"1")

    async with served(slow) as server, connected(server) as client:
        await client.send(GET + b"nonsense\r\n\r\n")
        assert await client.response() == (200, 1)
        assert await client.closed() == b""


async def test_pipelined_requests_are_bounded() -> None:
    before = REJECTED.labels("http", "invalid_request")._value.get()
    async with served() as server, connected(server) as client:
        await client.send(GET * 3000)
        served_bytes = await client.closed()
    assert served_bytes.count(b"HTTP/1.1 200") < 50
    assert REJECTED.labels("http", "invalid_request")._value.get() == before + 1


@pytest.mark.parametrize("sent", [b"", b"GET /", GET, GET + GET, POST + b"abc", b"nonsense\r\n\r\n", GET * 100])
async def test_a_connection_that_has_ended_is_freed_without_the_garbage_collector(sent: bytes) -> None:
    seen: list[weakref.ref[object]] = []

    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, 401, b"1")

    gc.collect()
    gc.disable()
    try:
        async with served(refuse) as server:
            async with connected(server) as client:
                await until(lambda: bool(server._server._guard._connections))
                seen += [weakref.ref(connection) for connection in server._server._guard._connections]
                await client.send(sent)
                await asyncio.sleep(0.05)
            assert seen
            await until(lambda: not [connection for connection in seen if connection() is not None])
    finally:
        gc.enable()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


async def test_the_body_of_a_refused_request_is_not_kept() -> None:
    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, 401, b"1")

    async with served(refuse) as server, connected(server) as client:
        await client.send(POST + b"a" * 60_000)
        await client.response()
        (connection,) = server._server._guard._connections
        assert not connection.cycle.body  # type: ignore[attr-defined]


async def test_a_client_that_does_not_stop_sending_after_its_response_is_not_read_for_ever() -> None:
    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, 401, b"1")

    sent = 0

    async def send_on(client: Client) -> None:
        nonlocal sent
        while sent < 1_000_000_000:
            await client.send(b"a" * 1_000_000)
            sent += 1_000_000

    async with served(refuse) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
        assert await client.response() == (401, 1)
        with pytest.raises(ConnectionError):
            await send_on(client)
    assert sent < 100_000_000
