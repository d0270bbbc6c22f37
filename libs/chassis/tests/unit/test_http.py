import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from chassis.errors import ArgosyError, Kind, RemoteError
from chassis.http import (
    STATUS,
    ClientDisconnected,
    HttpServer,
    OpsServer,
    PortTaken,
    Receive,
    RequestTooLarge,
    Routes,
    Scope,
    Send,
    openai_error,
    read_body,
    send_error,
    send_json,
)
from chassis.http.errors import TYPE
from chassis.settings import OpsSection
from chassis.testing import free_port

Message = MutableMapping[str, Any]


@asynccontextmanager
async def served(app: Callable[[Scope, Receive, Send], Any]) -> AsyncIterator[HttpServer]:
    """Serve an application on a free port."""
    server = HttpServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client_of(server: HttpServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client


class Exchange:
    """A request whose body arrives in pieces, and its response."""

    def __init__(self, *pieces: bytes, complete: bool = True) -> None:
        self.sent: list[Message] = []
        self._pieces = list(pieces)
        self._complete = complete

    async def receive(self) -> Message:
        if not self._pieces:
            return {"type": "http.disconnect"}
        piece = self._pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._complete}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> Any:
        return json.loads(self.sent[1]["body"])


def test_every_kind_has_a_status_and_a_type() -> None:
    assert set(STATUS) == set(TYPE) == set(Kind)


def test_an_error_has_the_shape_that_openai_clients_read() -> None:
    error = RemoteError(Kind.NOT_FOUND, "MODEL_NOT_FOUND", "There is no model m.", param="model")

    assert openai_error(error) == {
        "error": {
            "message": "There is no model m.",
            "type": "not_found_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


@pytest.mark.parametrize(
    ("kind", "retry_after", "expected"),
    [
        (Kind.THROTTLED, timedelta(seconds=1.2), {b"retry-after": b"2"}),
        (Kind.UNAVAILABLE, timedelta(0), {b"retry-after": b"0"}),
        (Kind.EXHAUSTED, None, {b"x-should-retry": b"false"}),
        (Kind.UNAUTHENTICATED, None, {b"www-authenticate": b"Bearer"}),
        (Kind.INVALID, None, {}),
    ],
)
async def test_the_headers_of_an_error_describe_the_retry(
    kind: Kind, retry_after: timedelta | None, expected: dict[bytes, bytes]
) -> None:
    exchange = Exchange()
    await send_error(exchange.send, RemoteError(kind, "STATE", "So it is.", retry_after=retry_after))

    assert exchange.sent[0]["status"] == STATUS[kind]
    assert {name: value for name, value in exchange.headers.items() if not name.startswith(b"content-")} == expected


async def test_the_client_sees_no_details_of_a_bug() -> None:
    exchange = Exchange()
    await send_error(exchange.send, RuntimeError("password is hunter2"), [(b"x-request-id", b"req_1")])

    assert exchange.sent[0]["status"] == 500
    assert exchange.headers[b"x-request-id"] == b"req_1"
    assert exchange.body["error"]["code"] == "internal"
    assert "hunter2" not in str(exchange.sent)


@pytest.mark.parametrize("pieces", [(b"abc",), (b"a", b"", b"bc"), (b"",), (b"12345", b"67890")])
async def test_a_body_is_read_whole_up_to_its_limit(pieces: tuple[bytes, ...]) -> None:
    assert await read_body(Exchange(*pieces).receive, 10) == b"".join(pieces)


@pytest.mark.parametrize("pieces", [(b"12345678901",), (b"123456", b"78901", b"2")])
async def test_a_body_beyond_the_limit_is_refused(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(RequestTooLarge, match="10 bytes"):
        await read_body(Exchange(*pieces).receive, 10)


async def test_an_incomplete_body_is_a_client_disconnect() -> None:
    with pytest.raises(ClientDisconnected):
        await read_body(Exchange(b"abc", complete=False).receive, 10)


async def test_routes_match_exactly_and_leave_the_rest_to_the_application_behind() -> None:
    async def hot(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, 200, b'"hot"')

    async def behind(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, 404, b'"behind"')

    async with served(Routes({("POST", "/hot"): hot}, behind)) as server, client_of(server) as client:
        assert (await client.post("/hot?q=1")).json() == "hot"
        for method, path in [("GET", "/hot"), ("POST", "/hot/"), ("POST", "/warm"), ("POST", "//hot")]:
            assert (await client.request(method, path)).json() == "behind"


async def test_a_server_serves_when_start_returns_and_not_after_stop() -> None:
    async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, 200, b"{}")

    async with served(hello) as server, client_of(server) as client:
        assert (await client.get("/")).status_code == 200
        assert "server" not in (await client.get("/")).headers
    with pytest.raises(OSError):  # noqa: PT011 - whichever way the system says no
        socket.create_connection(("127.0.0.1", server.port)).close()
    assert not server.failed.done()


async def test_the_error_of_a_port_in_use_has_its_address() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(PortTaken, match=f"127.0.0.1:{port}"):
            await HttpServer(Routes({}, None), "127.0.0.1", port).start()  # type: ignore[arg-type]


async def test_the_error_of_a_foreign_host_has_its_address() -> None:
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1"):
        await HttpServer(Routes({}, None), "192.0.2.1", 1).start()  # type: ignore[arg-type]


async def test_stop_waits_for_the_requests_in_flight() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        entered.set()
        await leave.wait()
        await send_json(send, 200, b'"done"')

    server = HttpServer(slow, "127.0.0.1", 0)
    await server.start()
    async with client_of(server) as client:
        in_flight = asyncio.create_task(client.get("/"))
        await entered.wait()
        stopping = asyncio.create_task(server.stop())
        _, waiting = await asyncio.wait([stopping], timeout=0.2)
        assert waiting
        leave.set()
        assert (await in_flight).json() == "done"
        await stopping


async def test_a_cancelled_stop_aborts_the_requests_in_flight() -> None:
    entered = asyncio.Event()

    async def stuck(_scope: Scope, _receive: Receive, _send: Send) -> None:
        entered.set()
        await asyncio.Event().wait()

    server = HttpServer(stuck, "127.0.0.1", 0)
    await server.start()
    async with client_of(server) as client:
        in_flight = asyncio.create_task(client.get("/"))
        await entered.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await server.stop()
        in_flight.cancel()
        await asyncio.gather(in_flight, return_exceptions=True)


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        ({"serving": "ok"}, 200),
        ({"serving": "ok", "postgres": "away"}, 503),
        ({"serving": "stops"}, 503),
        ({}, 503),
    ],
)
async def test_readiness_is_the_conjunction_of_the_checks(checks: dict[str, str], status: int) -> None:
    async def ready() -> dict[str, str]:
        return checks

    server = OpsServer(OpsSection(port=free_port()), ready)
    await server.start()
    async with client_of(server) as client:
        answer = await client.get("/readyz")
        health, metrics, other = [await client.get(path) for path in ("/healthz", "/metrics", "/")]
    await server.stop()

    assert (answer.status_code, answer.json()) == (status, {"ready": status == 200, "checks": checks})
    assert (health.status_code, health.text) == (200, "ok\n")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert "process_cpu_seconds_total" in metrics.text
    assert other.status_code == 404


def test_own_errors_of_http_are_states_with_kinds() -> None:
    states: list[type[ArgosyError]] = [RequestTooLarge, ClientDisconnected, PortTaken]

    assert [state.kind for state in states] == [Kind.TOO_LARGE, Kind.CANCELLED, Kind.UNAVAILABLE]
