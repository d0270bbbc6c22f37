"""An HTTP server as a component: uvicorn, without what it would do to the process around it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn

from chassis.errors import ArgosyError, Kind
from chassis.http.asgi import ASGIApp
from chassis.http.gathering import GatheringProtocol

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75  # longer than the 60 of common proxies, so that they never reuse what we are closing


class PortTaken(ArgosyError, public=False):
    """Something else listens on the address that a server was told to use."""

    kind, reason = Kind.UNAVAILABLE, "PORT_TAKEN"


class HttpServer:
    """Serves `app` from `start` on; `stop` takes no new connection and waits for the requests at hand."""

    def __init__(self, app: ASGIApp, host: str, port: int, name: str = "http") -> None:
        self.name = name
        self._app = app
        self._host = host
        self._port = port

    @property
    def port(self) -> int:
        """The port that is listened on; differs from the one asked for when that was 0."""
        return self._port

    async def start(self) -> None:
        """Listen. Raises `PortTaken`."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._server = _Server(_config(self._app, self._host, self._port))
        self._task = asyncio.create_task(self._server.serve([listener]), name=self.name)
        self._task.add_done_callback(self._ended)
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait([self._task, listening], return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Finish the requests at hand; when cancelled, cut them."""
        self._server.stop()
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            self._server.cut()
            self._task.cancel()
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.failed.done():
            return
        error = task.exception()
        if error is not None or not self._server.should_exit:
            self.failed.set_exception(error or RuntimeError(f"{self.name} stopped by itself"))


class _Server(uvicorn.Server):
    """Says when it listens, stops when it is told, and leaves signals to the lifecycle."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin to shut down."""
        self.should_exit = True
        self._stopping.set()

    def cut(self) -> None:
        """Drop the requests at hand with their connections."""
        self.force_exit = True
        for task in self.server_state.tasks:
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def main_loop(self) -> None:
        """Keep the date header right, once a second; uvicorn's own loop would wake ten times to see whether to stop."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


def _config(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host,
        port,
        loop="none",
        http=GatheringProtocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


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
