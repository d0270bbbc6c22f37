"""What the client of upstreams makes of replies that are right, wrong, or neither."""

import asyncio
import datetime as dt
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from inference_worker.adapters import pool
from inference_worker.adapters.connection import HIGH_BYTES
from inference_worker.adapters.http import Endpoint, HttpUpstream
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed, UpstreamGarbage
from provider_contract import until

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n"


class Peer:
    """Answers every request with the same bytes, in pieces, and does `then` with the connection."""

    def __init__(self, *pieces: bytes, then: Callable[[asyncio.StreamWriter], Any] | None = None) -> None:
        self.pieces = pieces
        self.then = then
        self.heads: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.hold: Awaitable[Any] | None = None

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if self.hold is not None:
                    await self.hold
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.then is not None:
                    self.then(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    @asynccontextmanager
    async def upstream(self, tls: ssl.SSLContext | None = None, **bounds: Any) -> AsyncIterator[HttpUpstream]:
        async with await asyncio.start_server(self.answer, "127.0.0.1", 0, ssl=tls) as server:
            port = server.sockets[0].getsockname()[1]
            scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
            async with HttpUpstream(Endpoint(f"{scheme}://{host}:{port}/v1/", {}, **bounds)) as upstream:
                yield upstream
            await until(lambda: not self.open)


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering the end is no orderly one.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def ask(upstream: HttpUpstream, body: bytes = b"{}") -> bytes:
    return await upstream.read_whole(await upstream.post("/chat", body))


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


async def test_the_request_names_path_host_and_length():
    peer = Peer(OK)
    async with peer.upstream() as upstream:
        await ask(upstream, b'{"a": 1}')

    first, *headers = peer.heads[0].decode().strip().split("\r\n")
    assert first == "POST /v1/chat HTTP/1.1"
    assert headers[0].startswith("host: 127.0.0.1:")
    assert {"content-type: application/json", "accept-encoding: identity", "content-length: 8"} < set(headers)


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {"x\n": "a"}, {"x": "\x00"}])
def test_a_header_that_would_break_the_request_is_refused(headers: dict[str, str]):
    with pytest.raises(ValueError, match="control character"):
        HttpUpstream(Endpoint("http://x", headers))


@pytest.mark.parametrize("name", ["", "x y", "x:", "x\t", "ü", "Content-Length", "transfer-encoding", "connection"])
def test_a_header_that_is_no_name_or_not_for_others_to_send_is_refused(name: str):
    with pytest.raises(ValueError, match="proper name"):
        HttpUpstream(Endpoint("http://x", {name: "1"}))


@pytest.mark.parametrize(
    "url",
    ["http://x..y", f"http://{'x' * 64}/v1", "http://", "http:///v1", "https://bücher.example/v1", "http://x:99999/"],
)
def test_an_address_that_names_nobody_is_refused(url: str):
    with pytest.raises(ValueError, match=r"host|[Pp]ort"):
        HttpUpstream(Endpoint(url, {}))


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://x", "x", 443),
        ("http://x", "x", 80),
        ("http://[::1]:8/v1", "::1", 8),
        ("https://X.y:8443/", "x.y", 8443),
    ],
)
def test_whom_to_connect_to_is_read_from_the_address(url: str, host: str, port: int):
    found = HttpUpstream(Endpoint(url, {}))._address

    assert (found.host, found.port) == (host, port)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and its certificate for localhost, signed by itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "localhost.pem"
    path.write_bytes(secret + made.public_bytes(pem))
    return path


def serving_with(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def fresh_trust() -> Iterator[None]:
    """Trust is read once per process."""
    pool._tls.cache_clear()
    yield
    pool._tls.cache_clear()


@pytest.mark.usefixtures("fresh_trust")
async def test_a_trusted_upstream_is_called_over_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    peer = Peer(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n")
    async with peer.upstream(serving_with(certificate)) as upstream:
        assert [await ask(upstream) for _ in range(2)] == [b"{}"] * 2

    assert peer.connections == 1


@pytest.mark.usefixtures("fresh_trust")
async def test_an_upstream_that_is_not_trusted_gets_no_request(certificate: Path):
    peer = Peer(OK)
    async with peer.upstream(serving_with(certificate)) as upstream:
        with pytest.raises(UpstreamFailed) as caught:
            await ask(upstream)

    assert not caught.value.may_have_cost
    assert not peer.heads
