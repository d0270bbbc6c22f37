"""HTTP servers as components: uvicorn without its signal handling and logging, and the ops port of every service."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Generator
from datetime import timedelta

import orjson
import prometheus_client
import uvicorn

from chassis.errors import ArgosyError, Kind
from chassis.http.asgi import ASGIApp, Header, Receive, Routes, Scope, Send, send_json
from chassis.http.bounded import BoundedProtocol
from chassis.http.connections import ConnectionGuard, ConnectionLimits
from chassis.settings import OpsSection
from chassis.telemetry.metrics import exposition
from chassis.telemetry.redaction import mask_keys_in_bytes

BACKLOG = 2048
SWEEP_SECONDS = 1.0
TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")
EXPOSITION: Header = (b"content-type", prometheus_client.CONTENT_TYPE_LATEST.encode())

# Of the ops port: from the descriptors that the public port leaves, so that probes are answered while that is full.
OPS_LIMITS = ConnectionLimits(
    max_connections=64,
    max_connections_per_address=0,
    head_timeout=timedelta(seconds=5),
    body_timeout=timedelta(seconds=5),
)

Checks = Callable[[], Awaitable[dict[str, str]]]


class PortTaken(ArgosyError, public=False):
    """Another process listens on the address of a server."""

    kind, reason = Kind.UNAVAILABLE, "PORT_TAKEN"


class HttpServer:
    """Serves `app`; `stop` accepts no new connection and waits for the requests in flight."""

    def __init__(
        self, app: ASGIApp, host: str, port: int, name: str = "http", limits: ConnectionLimits | None = None
    ) -> None:
        self.name = name
        self._limits = limits or ConnectionLimits()
        self._app = app
        self._host = host
        self._port = port

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was configured."""
        return self._port

    async def start(self) -> None:
        """Listen. Raises `PortTaken`."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._server = _Server(_config(self._app, ConnectionGuard(self.name, self._limits)))
        self._task = asyncio.create_task(self._server.serve([listener]), name=self.name)
        self._task.add_done_callback(self._on_ended)
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait([self._task, listening], return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Wait for the requests in flight; when cancelled, abort them."""
        self._server.stop()
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            self._server.abort()
            self._task.cancel()
            raise

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.failed.done():
            return
        error = task.exception()
        if error is not None or not self._server.should_exit:
            self.failed.set_exception(error or RuntimeError(f"{self.name} stopped by itself"))


class _Config(uvicorn.Config):
    """Hands the guard to the connections."""

    guard: ConnectionGuard


class _Server(uvicorn.Server):
    """Signals when it listens, and leaves process signals to the lifecycle."""

    def __init__(self, config: _Config) -> None:
        super().__init__(config)
        self._guard = config.guard
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    def abort(self) -> None:
        self.force_exit = True
        for task in self.server_state.tasks:
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        sweeping = asyncio.create_task(self._sweep())
        try:
            await super().serve(sockets)
        finally:
            sweeping.cancel()

    async def _sweep(self) -> None:
        """Also while the server stops: it waits for requests in flight, and a client may never complete its own."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._guard.sweep(loop.time())

    async def main_loop(self) -> None:
        """Update the date header once a second; uvicorn's own loop wakes ten times a second to check for the stop."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _config(app: ASGIApp, guard: ConnectionGuard) -> _Config:
    config = _Config(
        app,
        loop="none",
        http=BoundedProtocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=round(guard.limits.keep_alive.total_seconds()),
    )
    config.guard = guard
    return config


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


class OpsServer(HttpServer):
    """Serves `/healthz`, `/readyz` and `/metrics`; ready when all checks are `ok`; the others say why not."""

    def __init__(self, section: OpsSection, ready: Checks) -> None:
        self._ready = ready
        table = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics,
        }
        super().__init__(Routes(table, _not_found), section.host, section.port, name="ops", limits=OPS_LIMITS)

    async def _healthz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_text(send, 200, b"ok\n")

    async def _readyz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        checks = await self._ready()
        ready = bool(checks) and all(state == "ok" for state in checks.values())
        await send_json(
            send, 200 if ready else 503, mask_keys_in_bytes(orjson.dumps({"ready": ready, "checks": checks}))
        )

    async def _metrics(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_text(send, 200, exposition(), EXPOSITION)


async def _not_found(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _send_text(send, 404, b"There are /healthz, /readyz and /metrics.\n")


async def _send_text(send: Send, status: int, body: bytes, kind: Header = TEXT) -> None:
    headers = [kind, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
