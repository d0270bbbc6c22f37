"""How the HTTP client reads valid and invalid responses, and reuses connections."""

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta

import pytest
from inference_worker.providers.model import UpstreamFailed, UpstreamInterrupted, UpstreamProtocolError
from inference_worker.providers.transport.connection import MAX_BUFFERED_BYTES
from inference_worker.providers.transport.http import Endpoint, HttpClient
from inference_worker.providers.transport.pool import KEEPALIVE_OPTIONS
from provider_contract import until
from raw_http_server import CHUNKED, OK, UNTIL_CLOSED, RawHttpServer, close, post, reset


def single_bytes(sent: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in sent]


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([OK], b"{}"),
        (single_bytes(OK), b"{}"),
        ([b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", OK], b"{}"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], b"{}"),
        ([CHUNKED, b"1\r\n{\r\n", b"1\r\n}\r\n", b"0\r\n\r\n"], b"{}"),
        (single_bytes(CHUNKED + b"1;why=not\r\n{\r\n1\r\n}\r\n0\r\nchecksum: 7\r\n\r\n"), b"{}"),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}"], b"{}"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n", b"x" * 150_000, b"x" * 150_000], b"x" * 300_000),
    ],
)
async def test_a_response_is_read_in_every_framing_and_its_connection_is_reused(pieces: list[bytes], body: bytes):
    server = RawHttpServer(*pieces)
    async with server.client() as client:
        assert [await post(client) for _ in range(3)] == [body] * 3

    assert server.connections == 1


@pytest.mark.parametrize(
    ("sent", "then"),
    [
        (UNTIL_CLOSED + b"{}", close),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", None),
        (OK + b"and then some", None),
        (OK + OK, None),
        (OK, close),
    ],
)
async def test_a_connection_that_must_not_be_reused_is_closed(sent: bytes, then: Callable[..., None] | None):
    server = RawHttpServer(sent, then=then)
    async with server.client() as client:
        for _ in range(2):
            assert await post(client) == b"{}"
            await until(lambda: not server.open)

    assert server.connections == 2


@pytest.mark.parametrize(
    ("sent", "then"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", close),
        (CHUNKED + b"2\r\n{}\r\n", close),
        (CHUNKED + b"2\r\n{}\r\nnonsense", None),
        (CHUNKED + b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 100_000, None),
        (CHUNKED + b"2\r\n{}\r\n5;" + b"x" * 600_000, None),
    ],
)
async def test_a_truncated_body_is_interrupted(sent: bytes, then: Callable[..., None] | None):
    async with RawHttpServer(sent, then=then).client() as client:
        with pytest.raises(UpstreamInterrupted):
            await post(client)


async def test_a_body_without_length_that_is_reset_is_interrupted():
    writers: list[asyncio.StreamWriter] = []
    async with RawHttpServer(UNTIL_CLOSED + b"{}", then=writers.append).client() as client:
        response = await client.post("/chat", b"{}")
        reset(writers[0])

        with pytest.raises(UpstreamInterrupted):
            await client.read_all(response)


@pytest.mark.parametrize("then", [close, reset])
async def test_a_connection_that_ends_without_a_byte_was_dropped(then: Callable[..., None]):
    async with RawHttpServer(then=then).client() as client:
        with pytest.raises(UpstreamFailed, match="dropped") as caught:
            await post(client)

    assert caught.value.retry_same
    assert not caught.value.maybe_billed


@pytest.mark.parametrize("then", [close, lambda writer: asyncio.get_running_loop().call_later(0.01, reset, writer)])
@pytest.mark.parametrize("sent", [b"H", b"HTTP/1.1 200 OK\r\ncontent-", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_an_upstream_that_sent_a_byte_is_not_retried(sent: bytes, then: Callable[..., None]):
    async with RawHttpServer(sent, then=then).client() as client:
        with pytest.raises(UpstreamFailed, match="dropped") as caught:
            await post(client)

    assert not caught.value.retry_same
    assert caught.value.maybe_billed


@pytest.mark.parametrize(
    "sent",
    [
        b"220 mail.example.org ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 600_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 30_000,
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_what_is_not_a_plain_http_response_is_a_protocol_error(sent: bytes):
    async with RawHttpServer(sent).client() as client:
        with pytest.raises(UpstreamProtocolError):
            await post(client)


async def test_bytes_without_a_request_end_the_connection():
    server = RawHttpServer(OK)
    server.then = lambda writer: asyncio.get_running_loop().call_later(0.01, writer.write, OK)
    async with server.client() as client:
        await post(client)
        await until(lambda: not server.open)
        assert await post(client) == b"{}"


async def test_a_vanished_peer_is_detected_within_a_minute():
    server = RawHttpServer(OK)
    async with server.client() as client:
        assert client.pool is not None
        connection = await client.pool.acquire()
        assert connection.transport is not None
        sock = connection.transport.get_extra_info("socket")
        probes = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) for option, _ in KEEPALIVE_OPTIONS]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert probes[0] + probes[1] * probes[2] <= 60


async def test_an_idle_connection_is_closed_in_time():
    server = RawHttpServer(OK)
    async with server.client(keep_alive=timedelta(seconds=1)) as client:
        await asyncio.gather(post(client), post(client))
        assert server.open == 2

        await until(lambda: not server.open)


async def test_more_calls_than_connections_wait_and_a_waiter_can_be_cancelled():
    server = RawHttpServer(OK)
    server.before_response = released = asyncio.get_running_loop().create_future()
    async with server.client(max_connections=1) as client:
        calls = [asyncio.create_task(post(client)) for _ in range(4)]
        await until(lambda: server.heads)
        calls[1].cancel()
        released.set_result(None)

        results = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(results[1], asyncio.CancelledError)
    assert [results[0], *results[2:]] == [b"{}"] * 3
    assert server.connections == 1


async def test_an_aborted_connection_frees_its_slot():
    server = RawHttpServer(CHUNKED)
    async with server.client(max_connections=1) as client:
        for _ in range(3):
            (await client.post("/chat", b"{}")).close()

    assert server.connections == 3


async def test_a_connection_reset_at_once_frees_its_slot():
    async def reset_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with await asyncio.start_server(reset_at_once, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpClient(Endpoint(f"http://127.0.0.1:{port}", {}, max_connections=1)) as client:
            for _ in range(20):
                with pytest.raises(UpstreamFailed) as caught:
                    await post(client)

                assert "in time" not in caught.value.message


async def test_a_response_before_the_end_of_its_request_closes_the_connection():
    async def respond_early(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        await closed.wait()
        writer.close()

    closed = asyncio.Event()
    async with await asyncio.start_server(respond_early, "127.0.0.1", 0, limit=1024) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpClient(Endpoint(f"http://127.0.0.1:{port}", {})) as client:
            with pytest.raises(UpstreamFailed):
                await post(client, b"x" * 30_000_000)

            await until(lambda: client.pool is not None and not client.pool.size)
        closed.set()


async def test_an_unread_response_stays_with_its_sender():
    server = RawHttpServer(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n", b"x" * 50_000_000)
    async with server.client(max_response_bytes=60_000_000) as client:
        response = await client.post("/chat", b"{}")
        await until(lambda: response.buffered_bytes > MAX_BUFFERED_BYTES)
        await asyncio.sleep(0.05)

        # The loop reads at most this much at once.
        assert response.buffered_bytes < MAX_BUFFERED_BYTES + 512 * 1024
        assert len(await client.read_all(response)) == 50_000_000
