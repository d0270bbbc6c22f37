"""What the client of upstreams makes of replies that are right, wrong, or neither."""

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta

import pytest
from inference_worker.adapters import pool
from inference_worker.adapters.connection import HIGH_BYTES
from inference_worker.adapters.http import Endpoint, HttpUpstream
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed, UpstreamGarbage
from provider_contract import until
from raw_peer import CHUNKED, OK, UNTIL_CLOSED, Peer, ask, close, reset


def one_by_one(sent: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in sent]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([OK], b"{}"),
        (one_by_one(OK), b"{}"),
        ([b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", OK], b"{}"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], b"{}"),
        ([CHUNKED, b"1\r\n{\r\n", b"1\r\n}\r\n", b"0\r\n\r\n"], b"{}"),
        (one_by_one(CHUNKED + b"1;why=not\r\n{\r\n1\r\n}\r\n0\r\nchecksum: 7\r\n\r\n"), b"{}"),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}"], b"{}"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n", b"x" * 150_000, b"x" * 150_000], b"x" * 300_000),
    ],
)
async def test_a_reply_is_read_however_it_is_framed_and_its_connection_is_used_again(pieces: list[bytes], said: bytes):
    peer = Peer(*pieces)
    async with peer.upstream() as upstream:
        assert [await ask(upstream) for _ in range(3)] == [said] * 3

    assert peer.connections == 1


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
async def test_a_connection_that_may_not_be_used_again_is_not(sent: bytes, then: Callable[..., None] | None):
    peer = Peer(sent, then=then)
    async with peer.upstream() as upstream:
        for _ in range(2):
            assert await ask(upstream) == b"{}"
            await until(lambda: not peer.open)

    assert peer.connections == 2


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
async def test_a_body_that_breaks_off_is_cut(sent: bytes, then: Callable[..., None] | None):
    async with Peer(sent, then=then).upstream() as upstream:
        with pytest.raises(UpstreamCut):
            await ask(upstream)


async def test_a_body_without_length_that_is_reset_is_cut():
    writers: list[asyncio.StreamWriter] = []
    async with Peer(UNTIL_CLOSED + b"{}", then=writers.append).upstream() as upstream:
        reply = await upstream.post("/chat", b"{}")
        reset(writers[0])

        with pytest.raises(UpstreamCut):
            await upstream.read_whole(reply)


@pytest.mark.parametrize("then", [close, reset])
async def test_a_connection_that_ends_without_a_byte_was_dropped(then: Callable[..., None]):
    async with Peer(then=then).upstream() as upstream:
        with pytest.raises(UpstreamFailed, match="dropped") as caught:
            await ask(upstream)

    assert caught.value.again
    assert not caught.value.may_have_cost


@pytest.mark.parametrize("then", [close, lambda writer: asyncio.get_running_loop().call_later(0.01, reset, writer)])
@pytest.mark.parametrize("sent", [b"H", b"HTTP/1.1 200 OK\r\ncontent-", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_who_had_begun_to_answer_is_not_asked_again(sent: bytes, then: Callable[..., None]):
    async with Peer(sent, then=then).upstream() as upstream:
        with pytest.raises(UpstreamFailed, match="dropped") as caught:
            await ask(upstream)

    assert not caught.value.again
    assert caught.value.may_have_cost


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
async def test_what_is_not_the_http_that_was_asked_for_is_garbage(sent: bytes):
    async with Peer(sent).upstream() as upstream:
        with pytest.raises(UpstreamGarbage):
            await ask(upstream)


async def test_what_comes_without_a_request_ends_the_connection():
    peer = Peer(OK)
    peer.then = lambda writer: asyncio.get_running_loop().call_later(0.01, writer.write, OK)
    async with peer.upstream() as upstream:
        await ask(upstream)
        await until(lambda: not peer.open)
        assert await ask(upstream) == b"{}"


async def test_a_peer_that_vanishes_is_noticed_within_a_minute():
    peer = Peer(OK)
    async with peer.upstream() as upstream:
        assert upstream._pool is not None
        connection = await upstream._pool.take()
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        probes = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) for option, _ in pool.PROBES]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert probes[0] + probes[1] * probes[2] <= 60


async def test_an_idle_connection_is_closed_in_time():
    peer = Peer(OK)
    async with peer.upstream(keep_alive=timedelta(seconds=0.05)) as upstream:
        await asyncio.gather(ask(upstream), ask(upstream))
        assert peer.open == 2

        await until(lambda: not peer.open)


async def test_more_calls_than_connections_wait_for_their_turn_and_a_waiter_may_give_up():
    peer = Peer(OK)
    peer.hold = going = asyncio.get_running_loop().create_future()
    async with peer.upstream(max_connections=1) as upstream:
        calls = [asyncio.create_task(ask(upstream)) for _ in range(4)]
        await until(lambda: peer.heads)
        calls[1].cancel()
        going.set_result(None)

        said = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(said[1], asyncio.CancelledError)
    assert [said[0], *said[2:]] == [b"{}"] * 3
    assert peer.connections == 1


async def test_a_connection_that_was_broken_off_makes_room_for_another():
    peer = Peer(CHUNKED)
    async with peer.upstream(max_connections=1) as upstream:
        for _ in range(3):
            (await upstream.post("/chat", b"{}")).close()

    assert peer.connections == 3


async def test_a_peer_that_slams_the_door_takes_no_places():
    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with await asyncio.start_server(slam, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpUpstream(Endpoint(f"http://127.0.0.1:{port}", {}, max_connections=1)) as upstream:
            for _ in range(20):
                with pytest.raises(UpstreamFailed) as caught:
                    await ask(upstream)

                assert "in time" not in caught.value.message


async def test_a_request_that_is_answered_before_it_was_sent_takes_its_connection_along():
    async def hasty(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        await closed.wait()
        writer.close()

    closed = asyncio.Event()
    async with await asyncio.start_server(hasty, "127.0.0.1", 0, limit=1024) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpUpstream(Endpoint(f"http://127.0.0.1:{port}", {})) as upstream:
            with pytest.raises(UpstreamFailed):
                await ask(upstream, b"x" * 30_000_000)

            await until(lambda: upstream._pool is not None and not upstream._pool._open)
        closed.set()


async def test_a_reply_that_nobody_reads_stays_with_its_sender():
    peer = Peer(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n", b"x" * 50_000_000)
    async with peer.upstream(max_body_bytes=60_000_000) as upstream:
        reply = await upstream.post("/chat", b"{}")
        await until(lambda: reply.held > HIGH_BYTES)
        await asyncio.sleep(0.05)

        # The loop reads at most this much at once.
        assert reply.held < HIGH_BYTES + 512 * 1024
        assert len(await upstream.read_whole(reply)) == 50_000_000
