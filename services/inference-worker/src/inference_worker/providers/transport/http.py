"""One upstream's HTTP: kept-alive connections, bounded everything, and failures told apart."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Self
from urllib.parse import quote, urlsplit

from inference_worker.adapters.connection import Broken, Connection, NotHttp, Reply
from inference_worker.adapters.pool import Address, Pool
from inference_worker.adapters.refusals import ERROR_BODY_BYTES, message_of, refusal, retry_after_of
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed, UpstreamGarbage

LINGER_SECONDS = 1.0
"""How long the last bytes of a finished answer may take, so that its connection can be used again."""

AT_ONCE_SECONDS = 1.0
"""A kept-alive connection that the other side had closed drops within this; later the upstream had the request."""

_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_OURS = frozenset({"connection", "content-length", "expect", "transfer-encoding"})
"""Headers that say where a request ends, or what becomes of its connection."""


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
    max_connections: int = 4096
    max_body_bytes: int = 8 * 1024 * 1024
    max_event_bytes: int = 4 * 1024 * 1024


class HttpUpstream:
    """An async context manager that owns the connections to one upstream.

    Redirects are not followed and cookies not kept: a provider has no need of them, and credentials would go along.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises `ValueError` for an address or a header that cannot be sent."""
        self.endpoint = endpoint
        url = urlsplit(endpoint.base_url)
        if not url.hostname or not endpoint.base_url.isascii():
            raise ValueError(f"{endpoint.base_url!r} does not name a host in ASCII")
        if not all(0 < len(label) < 64 for label in url.hostname.removesuffix(".").split(".")):
            raise ValueError(f"{url.hostname!r} cannot be the name of a host")
        tls = url.scheme == "https"
        self._address = Address(url.hostname, url.port or (443 if tls else 80), tls)
        self._path = quote(url.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        self._headers = {
            "host": url.netloc,
            "content-type": "application/json",
            "accept": "*/*",
            # Compression would hold stream events back.
            "accept-encoding": "identity",
            "user-agent": "argosy",
            **endpoint.headers,
        }
        if any(_UNSENDABLE.search(name + value) for name, value in self._headers.items()):
            raise ValueError("a header holds a control character")
        if not all(_NAME.fullmatch(name) and name.lower() not in _OURS for name in endpoint.headers):
            raise ValueError("a header has no proper name, or one that is ours to send")
        self._heads: dict[str, bytes] = {}
        self._pool: Pool | None = None

    async def __aenter__(self) -> Self:
        bounds = self.endpoint
        self._pool = Pool(
            self._address,
            most=bounds.max_connections,
            connect_seconds=bounds.connect_timeout.total_seconds(),
            keep_alive_seconds=bounds.keep_alive.total_seconds(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            await self._pool.close()

    async def post(self, path: str, body: bytes) -> Reply:
        """Send `body`; return once a success status arrived. Raises an `UpstreamFailed`."""
        head = self._heads.get(path) or self._heads.setdefault(path, self._head(path))
        connection = await self._connected()
        began_at = monotonic()
        reply = connection.request((head, b"%d\r\n\r\n" % len(body), body))
        try:
            status = await reply.head()
        except NotHttp as error:
            raise UpstreamGarbage("the upstream does not speak HTTP") from error
        except Broken as error:
            # Who had begun to answer had the request, however soon it went.
            at_once = not reply.held and monotonic() - began_at < AT_ONCE_SECONDS
            raise UpstreamFailed("the upstream dropped the connection", again=at_once, costly=not at_once) from error
        except BaseException:
            reply.close()
            raise
        if status != 200:
            raise await self._refused(reply)
        if reply.encoded:
            reply.close()
            raise UpstreamGarbage("the upstream compressed its answer")
        return reply

    async def read_whole(self, reply: Reply) -> bytes:
        """The body of a success. Raises `UpstreamCut`, or `UpstreamGarbage` when it is larger than the bound."""
        body = await _read_up_to(reply, self.endpoint.max_body_bytes)
        if len(body) > self.endpoint.max_body_bytes:
            reply.close()
            raise UpstreamGarbage("the upstream's answer is too large")
        return body

    async def _connected(self) -> Connection:
        if self._pool is None:
            raise RuntimeError("enter it first")
        try:
            return await self._pool.take()
        except TimeoutError as error:
            raise UpstreamFailed("no connection to the upstream in time") from error
        except OSError as error:
            raise UpstreamFailed("the upstream cannot be reached") from error

    def _head(self, path: str) -> bytes:
        """A request's head, up to the length of its body."""
        lines = [f"POST {self._path}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in self._headers.items())]
        return "\r\n".join([*lines, "content-length: "]).encode()

    async def _refused(self, reply: Reply) -> UpstreamFailed:
        try:
            body = await _read_up_to(reply, ERROR_BODY_BYTES)
        except UpstreamCut:
            body = b""
        finally:
            reply.close()
        said = message_of(body[:ERROR_BODY_BYTES])
        return refusal(reply.status, said, self.endpoint.secrets, retry_after_of(reply.retry_after))


async def read_some(reply: Reply) -> bytes:
    """Whatever has arrived, waiting for the first byte of it; empty at the end. Raises `UpstreamCut`."""
    try:
        return await reply.read()
    except Broken as error:
        raise UpstreamCut("the upstream broke off its answer") from error


async def _read_up_to(reply: Reply, limit: int) -> bytes:
    """The body, or a little more than `limit` bytes of it."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= limit and (piece := await read_some(reply)):
            pieces.append(piece)
            size += len(piece)
            # As a rule the first piece is all: this saves the read that would say so.
            if reply.exhausted:
                break
    except BaseException:
        reply.close()
        raise
    return b"".join(pieces)
