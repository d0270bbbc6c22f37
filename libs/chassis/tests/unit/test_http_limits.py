"""Connections that break a limit are closed, with an error that says why, and do not touch the others."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from chassis.http import HttpServer, OpsServer, Receive, Scope, Send, send_json
from chassis.http.connections import REJECTED, ConnectionLimits, client_network, default_max_connections
from chassis.settings import OpsSection
from chassis.testing import free_port

from libs.chassis.tests.raw_http import GET, POST, QUICK, Client, connected, echo, served


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.http.server.SWEEP_SECONDS", 0.05)


@pytest.fixture
def rejected() -> Any:
    """Counts the rejections of a reason since the test began."""
    start: dict[str, float] = {}

    def value(reason: str) -> float:
        return float(REJECTED.labels("http", reason)._value.get())

    for reason in REASONS:
        start[reason] = value(reason)
    return lambda reason: value(reason) - start[reason]


REASONS = (
    "uri_too_long", "headers_too_large", "malformed", "invalid_request", "head_timeout", "body_timeout", "send_timeout",
    "connections", "connections_per_address",
)  # fmt: skip


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET /" + b"a" * 300_000, 414, "uri_too_long"),
        (GET[:-2] + b"x: " + b"a" * 40_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (GET[:-2] + b"x: " + b"a" * 600_000, 431, "headers_too_large"),
        (GET[:-2] + b"a:b\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (GET[:-2] + b"a:b\r\n" * 200, 431, "headers_too_large"),
        (b"\x16\x03\x01 hello\r\n\r\n", 400, "invalid_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", 400, "invalid_request"),
        (GET[:-2] + b"authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400, "invalid_request"),
        (POST[:-2] + b"transfer-encoding: chunked\r\n\r\n", 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400, "invalid_request"),
        (
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + b"a" * 900_000,
            431,
            "headers_too_large",
        ),
    ],
)
async def test_a_request_that_breaks_a_limit_is_refused_and_its_connection_closed(
    request_bytes: bytes, status: int, code: str
) -> None:
    async with served() as server, connected(server) as client:
        await client.send(request_bytes)
        got, body = await client.response()
        assert await client.closed() == b""

    assert (got, body["error"]["code"], body["error"]["type"]) == (status, code, "invalid_request_error")


async def test_heads_within_the_limits_are_served() -> None:
    async with served() as server, connected(server) as client:
        for head in (
            b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
            GET[:-2] + b"x: " + b"a" * 30_000 + b"\r\n\r\n",
            GET[:-2] + b"a:b\r\n" * 120 + b"\r\n",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + b"a" * 200_000,
            b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        ):
            await client.send(head)
            assert (await client.response())[0] == 200
            if b"1.0" in head:
                assert await client.closed() == b""


async def test_a_url_of_100_mb_costs_no_time(rejected: Any) -> None:
    """No other request waits for it: seconds of this process, which other processes do not lengthen."""

    async def flood(client: Client) -> None:
        piece = b"a" * 1_000_000
        try:
            await client.send(b"GET /")
            for _ in range(100):
                await client.send(piece)
        except ConnectionError:
            pass

    async with served() as server, connected(server) as bad, connected(server) as good:
        flooding = asyncio.create_task(flood(bad))
        longest = 0.0
        while not flooding.done():
            began = time.process_time()
            await good.send(GET)
            assert (await good.response())[0] == 200
            longest = max(longest, time.process_time() - began)
        await flooding
    assert rejected("uri_too_long") == 1
    assert longest < 0.5


async def test_bad_requests_are_counted_and_logged_at_a_bounded_rate(
    rejected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served() as server:
        for _ in range(50):
            async with connected(server) as client:
                await client.send(b"nonsense\r\n\r\n")
                assert (await client.response())[0] == 400
    assert rejected("malformed") == 50
    assert capsys.readouterr().err.count("http_connection_rejected") <= 1


@pytest.mark.parametrize(
    ("sent", "reason", "answer"),
    [
        (b"", "head_timeout", b""),
        (GET[:-5], "head_timeout", b"HTTP/1.1 408"),
        (POST, "body_timeout", b"HTTP/1.1 408"),
        (POST + b"half", "body_timeout", b"HTTP/1.1 408"),
    ],
)
async def test_a_client_that_stops_sending_is_given_up(rejected: Any, sent: bytes, reason: str, answer: bytes) -> None:
    async with served(limits=QUICK) as server, connected(server) as client:
        await client.send(sent)
        assert (await client.closed())[:12] == answer
    assert rejected(reason) == 1


@pytest.mark.parametrize("head", [b"GET /", POST])
async def test_a_client_that_drips_is_given_up(rejected: Any, head: bytes) -> None:
    async with served(limits=QUICK) as server, connected(server) as client:
        await client.send(head)

        async def drip() -> None:
            while True:
                await client.send(b"a")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert (await client.closed())[:12] == b"HTTP/1.1 408"
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
    assert rejected("body_timeout") + rejected("head_timeout") == 1


async def test_a_slow_body_that_makes_progress_is_served() -> None:
    limits = ConnectionLimits(body_timeout=timedelta(seconds=2), min_body_bytes=1000)
    async with served(limits=limits) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10000\r\n\r\n")
        for _ in range(10):  # longer than the time-out in all
            await asyncio.sleep(0.25)
            await client.send(b"a" * 1000)
        assert await client.response() == (200, 10000)


async def test_empty_lines_do_not_keep_a_connection() -> None:
    limits = ConnectionLimits(keep_alive=timedelta(seconds=1))
    async with served(limits=limits) as server, connected(server) as client:
        await client.send(GET)
        await client.response()
        closed = asyncio.create_task(client.closed())
        while not closed.done():
            await client.send(b"\r\n")
            await asyncio.sleep(0.1)
        assert await closed == b""


async def test_a_client_that_does_not_read_is_given_up(rejected: Any) -> None:
    ended = asyncio.Event()

    async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

        async def write() -> None:
            while True:
                await send({"type": "http.response.body", "body": b"a" * 100_000, "more_body": True})
                await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        while (await receive())["type"] != "http.disconnect":
            pass
        writing.cancel()
        ended.set()

    async with served(endless, QUICK) as server, connected(server) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET)
        async with asyncio.timeout(30):
            await ended.wait()
    assert rejected("send_timeout") == 1


async def test_a_waiting_client_is_not_late() -> None:
    second = timedelta(seconds=1)
    limits = ConnectionLimits(head_timeout=second, body_timeout=second, send_timeout=second)

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.5)
        await send_json(send, 200, b"1")

    async with served(slow, limits) as server, connected(server) as client:
        await client.send(GET + GET)
        assert await client.response() == (200, 1)
        assert await client.response() == (200, 1)


async def test_connections_are_bounded_in_all_and_by_address(rejected: Any) -> None:
    limits = ConnectionLimits(max_connections=6, max_connections_per_address=4)
    async with served(limits=limits) as server:
        async with (
            connected(server, "127.0.0.2"), connected(server, "127.0.0.2"),
            connected(server, "127.0.0.2"), connected(server, "127.0.0.2"),
        ):  # fmt: skip
            async with connected(server, "127.0.0.2") as refused:
                status, body = await refused.response()
                assert (status, body["error"]["code"]) == (503, "too_many_connections")
            async with connected(server) as good, connected(server), connected(server) as late:
                await good.send(GET)
                assert (await good.response())[0] == 200
                assert (await late.response())[0] == 503
        async with asyncio.timeout(30):
            while server._server._guard._connections:
                await asyncio.sleep(0.01)
        async with connected(server, "127.0.0.2") as again:
            await again.send(GET)
            assert (await again.response())[0] == 200
    assert (rejected("connections"), rejected("connections_per_address")) == (1, 1)


async def test_readiness_is_answered_while_the_public_port_is_full() -> None:
    async def ready() -> dict[str, str]:
        return {"serving": "ok"}

    ops = OpsServer(OpsSection(port=free_port()), ready)
    await ops.start()
    async with served(limits=ConnectionLimits(max_connections=1)) as server, connected(server), connected(ops) as probe:
        await probe.send(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await probe.response())[0] == 200
    await ops.stop()


async def test_a_stop_does_not_wait_for_a_request_that_never_completes() -> None:
    server = HttpServer(echo, "127.0.0.1", 0, limits=QUICK)
    await server.start()
    async with connected(server) as client, asyncio.timeout(30):
        await client.send(POST + b"abc")
        while not any(connection.cycle for connection in server._server._guard._connections):  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        await server.stop()


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        (("192.0.2.7", 80), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 80, 0, 0), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 80, 0, 0), "192.0.2.7"),
        (("fe80::1%eth0", 80, 0, 2), "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_ipv6_client_is_counted_by_its_network(peer: object, network: str) -> None:
    assert client_network(peer) == network


@pytest.mark.parametrize(("soft", "expected"), [(256, 128), (1024, 512), (4096, 3584), (1_048_576, 16_384)])
def test_the_limit_of_open_files_leaves_descriptors_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, soft: int, expected: int
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft, soft))
    assert default_max_connections() == expected
