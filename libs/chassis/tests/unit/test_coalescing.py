"""Writes of one turn of the loop leave together, those of a slow client's answer in time, and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest
from chassis.http import HttpServer, Receive, Scope, Send
from chassis.http.connections import MAX_BUFFERED_BYTES, CoalescingTransport


class Wire(asyncio.Transport):
    """Records its calls."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.done: list[object] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.done.append(bytes(data))

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & {item for item in self.done if isinstance(item, str)})


@pytest.fixture
def wire() -> Wire:
    return Wire()


async def test_what_is_written_in_one_turn_leaves_as_one_at_its_end(wire: Wire) -> None:
    transport = CoalescingTransport(wire)
    transport.write(b"head")
    transport.write(bytearray(b"body"))
    assert wire.done == []
    await asyncio.sleep(0)
    transport.write(b"alone")
    await asyncio.sleep(0)

    assert wire.done == [b"headbody", b"alone"]


async def test_a_piece_that_changes_after_it_was_written_does_not_change_what_leaves(wire: Wire) -> None:
    piece = bytearray(b"before")
    transport = CoalescingTransport(wire)
    transport.write(piece)
    piece[:] = b"after!"
    await asyncio.sleep(0)

    assert wire.done == [b"before"]


async def test_a_large_write_is_not_delayed_so_that_back_pressure_works(wire: Wire) -> None:
    transport = CoalescingTransport(wire)
    transport.write(b"x")
    transport.write(b"y" * MAX_BUFFERED_BYTES)
    transport.write(b"z")

    assert [len(item) for item in wire.done if isinstance(item, bytes)] == [MAX_BUFFERED_BYTES + 1]
    await asyncio.sleep(0)
    assert wire.done[-1] == b"z"


async def test_closing_sends_what_waits_and_aborting_does_not(wire: Wire) -> None:
    transport = CoalescingTransport(wire)
    transport.write(b"last")
    transport.close()
    transport.write(b"never")
    transport.abort()
    await asyncio.sleep(0)

    assert wire.done == [b"last", "close", "abort"]
    assert transport.is_closing()
    assert transport.get_extra_info("peername") == ("127.0.0.1", 1)
    assert transport.get_extra_info("nothing", 7) == 7


async def test_a_client_that_does_not_read_stops_who_writes_to_it() -> None:
    written = 0

    async def endless(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal written
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while written < 5000:
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            written += 1

    server = HttpServer(endless, "127.0.0.1", 0)
    await server.start()
    _reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    before = -1
    async with asyncio.timeout(30):
        while before != written or written == 0:
            before = written
            await asyncio.sleep(0.05)

    assert written < 1000
    writer.transport.abort()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
