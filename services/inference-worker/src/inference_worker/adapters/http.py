"""One upstream's HTTP: kept-alive connections, bounded everything, and failures told apart."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Self

import aiohttp
from yarl import URL

from inference_worker.adapters.refusals import ERROR_BODY_BYTES, message_of, refusal, retry_after_of
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed, UpstreamGarbage

LINGER_SECONDS = 1.0

AT_ONCE_SECONDS = 1.0
"""A kept-alive connection that the other side had closed drops within this; later the upstream had the request."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an upstream is, and within which bounds it is called."""

    base_url: str
    headers: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values that must never be shown to anybody."""
    connect_timeout: timedelta = timedelta(seconds=5)
    # Below the 5 s after which uvicorn and cpp-httplib drop an idle connection.
    keep_alive: timedelta = timedelta(seconds=4)
    max_connections: int = 512
    max_body_bytes: int = 8 * 1024 * 1024
    max_event_bytes: int = 4 * 1024 * 1024


class HttpUpstream:
    """An async context manager that owns the connections to one upstream.

    Redirects are not followed and cookies not kept: a provider has no need of them, and credentials would go along.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._base = endpoint.base_url.rstrip("/")
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._lingering: dict[aiohttp.ClientResponse, asyncio.TimerHandle] = {}

    async def __aenter__(self) -> Self:
        bounds = self.endpoint
        connect_seconds = bounds.connect_timeout.total_seconds()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=bounds.max_connections,
                keepalive_timeout=bounds.keep_alive.total_seconds(),
            ),
            # The plan's leash bounds everything after the connection.
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds),
            headers={
                "content-type": "application/json",
                # Compression would hold stream events back.
                "accept-encoding": "identity",
                "user-agent": "argosy",
                **bounds.headers,
            },
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for response in list(self._lingering):
            self._close(response)
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        """Send `body`; return once a success status arrived. Raises an `UpstreamFailed`."""
        if self._session is None:
            raise RuntimeError("enter it first")
        url = self._urls.get(path) or self._urls.setdefault(path, URL(self._base + path))
        began_at = monotonic()
        try:
            response = await self._session.post(url, data=body, allow_redirects=False)
        except aiohttp.ClientConnectorError as error:
            raise UpstreamFailed("the upstream cannot be reached") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamFailed("no connection to the upstream in time") from error
        except aiohttp.ClientConnectionError as error:
            at_once = monotonic() - began_at < AT_ONCE_SECONDS
            raise UpstreamFailed("the upstream dropped the connection", again=at_once, costly=not at_once) from error
        except aiohttp.ClientError as error:
            raise UpstreamGarbage("the upstream does not speak HTTP") from error
        if response.status != 200:
            raise await self._refused(response)
        return response

    async def read_whole(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of a success. Raises `UpstreamCut`, or `UpstreamGarbage` when it is larger than the bound."""
        body = await _read_up_to(response, self.endpoint.max_body_bytes)
        if len(body) > self.endpoint.max_body_bytes:
            response.close()
            raise UpstreamGarbage("the upstream's answer is too large")
        return body

    def linger(self, response: aiohttp.ClientResponse) -> None:
        """Let a finished answer's connection return to the pool once its last bytes arrive, or close it soon.

        Nobody waits for those bytes: the client has its answer.
        """
        if response.content.is_eof():
            return
        self._lingering[response] = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close, response)
        response.content.on_eof(lambda: self._close(response))

    def _close(self, response: aiohttp.ClientResponse) -> None:
        timer = self._lingering.pop(response, None)
        if timer is not None:
            timer.cancel()
        # Without effect on a response that has ended.
        response.close()

    async def _refused(self, response: aiohttp.ClientResponse) -> UpstreamFailed:
        try:
            body = await _read_up_to(response, ERROR_BODY_BYTES)
        except UpstreamCut:
            body = b""
        finally:
            response.close()
        said = message_of(body[:ERROR_BODY_BYTES])
        return refusal(response.status, said, self.endpoint.secrets, retry_after_of(response.headers))


async def read_some(response: aiohttp.ClientResponse) -> bytes:
    """Whatever has arrived, waiting for the first byte of it; empty at the end. Raises `UpstreamCut`."""
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, ConnectionError) as error:
        raise UpstreamCut("the upstream broke off its answer") from error


async def _read_up_to(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or a little more than `limit` bytes of it."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= limit and (piece := await read_some(response)):
            pieces.append(piece)
            size += len(piece)
            # As a rule the first piece is all: this saves the read that would say so.
            if response.content.at_eof():
                break
    except BaseException:
        response.close()
        raise
    return b"".join(pieces)
