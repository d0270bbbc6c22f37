"""The HTTP client of one upstream: kept-alive connections, every size and wait bounded, an error class per failure."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic
from typing import Self
from urllib.parse import quote, urlsplit

from chassis.clock import SystemClock

from inference_worker.providers.credentials import Credential
from inference_worker.providers.inner_errors import InnerError
from inference_worker.providers.model import UpstreamFailed, UpstreamInterrupted, UpstreamProtocolError
from inference_worker.providers.status_errors.classify import classify
from inference_worker.providers.transport.connection import Connection, ConnectionLost, ProtocolError, Response
from inference_worker.providers.transport.content_encoding import ContentDecoder, EncodingError, new_decoder
from inference_worker.providers.transport.errors import MAX_ERROR_BODY_BYTES, refusal_error, refused
from inference_worker.providers.transport.pool import Address, Pool
from inference_worker.providers.transport.proxy import proxy_for

LINGER_SECONDS = 1.0
"""How long the last bytes of a finished response may take, so that its connection can be reused."""

STALE_CONNECTION_WINDOW_SECONDS = 1.0
"""A kept-alive connection that the peer had closed drops within this; later, the upstream had the request."""

_CLOCK = SystemClock()
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_QUERY_CHARACTERS = "/%:@!$&'()*+,;=~?"
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_RESERVED_HEADERS = frozenset({"connection", "content-length", "expect", "transfer-encoding"})
"""They decide where a request ends and whether its connection stays open."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address, headers and limits of an upstream."""

    base_url: str
    headers: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values that no message may contain."""
    connect_timeout: timedelta = timedelta(seconds=5)
    credential_header: tuple[str, str] | None = None
    """The header that carries the credential of a call, and what precedes it; it replaces one of `headers`."""
    # Below the 5 s after which uvicorn and cpp-httplib drop an idle connection.
    keep_alive: timedelta = timedelta(seconds=4)
    max_connections: int = 4096
    max_response_bytes: int = 8 * 1024 * 1024
    max_event_bytes: int = 4 * 1024 * 1024
    refuse_link_local: bool = False
    """Whether a connection to a link-local address, or to a metadata service, is closed before anything is sent."""


class HttpClient:
    """An async context manager that owns the connections to one upstream.

    It follows no redirects and keeps no cookies: providers need neither, and a redirect would leak the credentials.
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
        if url.fragment:
            raise ValueError(f"{endpoint.base_url!r} has a fragment, which is never sent")
        proxy = proxy_for(url)
        self.address = Address(url.hostname, url.port or (443 if tls else 80), tls, proxy)
        self.pool: Pool | None = None
        self._path = quote(url.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        self._query = f"?{quote(url.query, safe=_QUERY_CHARACTERS)}" if url.query else ""
        self._headers = {
            "host": url.netloc,
            "content-type": "application/json",
            "accept": "*/*",
            # A compressor would hold stream events back.
            "accept-encoding": "identity",
            "user-agent": "argosy",
            **endpoint.headers,
        }
        if proxy is not None and not tls:
            # Proxies open tunnels for TLS; what they can read they want to read.
            self.address = Address(proxy.host, proxy.port, False)
            self._path = f"http://{url.netloc}{self._path}"
            if proxy.authorization:
                self._headers["proxy-authorization"] = proxy.authorization
        if any(_CONTROL_CHARACTER.search(name + value) for name, value in self._headers.items()):
            raise ValueError("a header holds a control character")
        if not all(_HEADER_NAME.fullmatch(name) and name.lower() not in _RESERVED_HEADERS for name in endpoint.headers):
            raise ValueError("a header has an invalid or reserved name")
        self._heads: dict[tuple[str, bool], bytes] = {}

    async def __aenter__(self) -> Self:
        endpoint = self.endpoint
        self.pool = Pool(
            self.address,
            max_connections=endpoint.max_connections,
            connect_seconds=endpoint.connect_timeout.total_seconds(),
            keep_alive_seconds=endpoint.keep_alive.total_seconds(),
            refuse_link_local=endpoint.refuse_link_local,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.pool is not None:
            await self.pool.close()

    def retire(self) -> None:
        """Close idle connections now, and the others when their responses have ended."""
        if self.pool is not None:
            self.pool.retire()

    async def post(self, path: str, body: bytes, credential: Credential | None = None) -> Response:
        """Send `body` and return once status 200 has arrived. Raises an `UpstreamFailed`."""
        key = (path, credential is not None)
        head = self._heads.get(key) or self._heads.setdefault(key, self._head(*key))
        end = self._head_end(len(body), credential)
        connection = await self._connect()
        sent_at = monotonic()
        response = connection.send((head, end, body))
        if credential is not None:
            response.secrets = (credential.secret,)
        try:
            status = await response.read_head()
        except ProtocolError as error:
            raise UpstreamProtocolError("the upstream does not speak HTTP") from error
        except ConnectionLost as error:
            # An upstream that sent a byte had the request, however soon the connection dropped.
            stale = not response.buffered_bytes and monotonic() - sent_at < STALE_CONNECTION_WINDOW_SECONDS
            raise UpstreamFailed(
                "the upstream dropped the connection", retry_same=stale, maybe_billed=not stale
            ) from error
        except BaseException:
            response.close()
            raise
        if response.content_encoding:
            _decode(response)
        if status != 200:
            raise await self._status_error(response)
        return response

    async def read_all(self, response: Response, max_bytes: int | None = None) -> bytes:
        """Return the body. Raises `UpstreamInterrupted`, or `UpstreamProtocolError` above `max_bytes`.

        Without `max_bytes` it is the `max_response_bytes` of the endpoint.
        """
        limit = self.endpoint.max_response_bytes if max_bytes is None else max_bytes
        body = await _read_up_to(response, limit)
        if len(body) > limit:
            response.close()
            raise UpstreamProtocolError("the upstream's response is too large")
        return body

    async def read_into(self, response: Response, take: Callable[[bytes], None]) -> None:
        """Pass the body on as it arrives. Raises `UpstreamInterrupted`, and what `take` raises."""
        try:
            while piece := await read_available(response):
                take(piece)
        except BaseException:
            response.close()
            raise

    async def _connect(self) -> Connection:
        if self.pool is None:
            raise RuntimeError("the client is not open")
        try:
            return await self.pool.acquire()
        except TimeoutError as error:
            raise UpstreamFailed("no connection to the upstream in time") from error
        except OSError as error:
            raise UpstreamFailed("the upstream cannot be reached") from error

    def _head(self, path: str, has_credential: bool) -> bytes:
        """Return the head of a request, up to the length of its body."""
        replaced = self.endpoint.credential_header
        left_out = replaced[0] if replaced is not None and has_credential else ""
        headers = (f"{name}: {value}" for name, value in self._headers.items() if name != left_out)
        lines = [f"POST {self._path}{path}{self._query} HTTP/1.1", *headers]
        return "\r\n".join([*lines, "content-length: "]).encode()

    def _head_end(self, length: int, credential: Credential | None) -> bytes:
        """Return the rest of the head: the secret is kept in no cache, so that a revoked one is nowhere."""
        header = self.endpoint.credential_header
        if credential is None or header is None:
            return b"%d\r\n\r\n" % length
        return f"{length}\r\n{header[0]}: {header[1]}{credential.secret}\r\n\r\n".encode()

    async def _status_error(self, response: Response) -> UpstreamFailed:
        try:
            body = await _read_up_to(response, MAX_ERROR_BODY_BYTES)
        except (UpstreamInterrupted, UpstreamProtocolError):
            body = b""
        finally:
            response.close()
        return refused(response.status, response.waits, body, self.endpoint.secrets + response.secrets)

    def refused(self, error: InnerError, response: Response | None = None) -> UpstreamFailed:
        """Return the error that stands inside of a response with status 200."""
        headers = response.waits if response is not None else {}
        refusal = classify(error.status, headers, error.body, now=_CLOCK.now())
        if not refusal.message:
            refusal = replace(refusal, message=error.message)
        return refusal_error(refusal, self.endpoint.secrets + (response.secrets if response is not None else ()))


async def read_available(response: Response) -> bytes:
    """Wait for a byte of the body and return all that has arrived; empty at the end.

    Raises `UpstreamInterrupted`, or `UpstreamProtocolError` for a body that cannot be decoded.
    """
    try:
        if response.decoder is not None:
            return await _read_decoded(response, response.decoder)
        return await response.read()
    except ConnectionLost as error:
        raise UpstreamInterrupted("the upstream's response was interrupted") from error


async def _read_decoded(response: Response, decoder: ContentDecoder) -> bytes:
    try:
        piece = decoder.decode(b"") if decoder.pending else b""
        while not piece:
            data = await response.read()
            if not data:
                if not decoder.complete:
                    raise UpstreamInterrupted("the upstream's compressed response was interrupted")
                return b""
            piece = decoder.decode(data)
            while not piece and decoder.pending:
                piece = decoder.decode(b"")
    except EncodingError as error:
        response.close()
        raise UpstreamProtocolError(str(error)) from error
    return piece


def _decode(response: Response) -> None:
    """Let the body be decoded. Raises `UpstreamProtocolError` for an unknown encoding."""
    try:
        response.decoder = new_decoder(response.content_encoding)
    except EncodingError as error:
        if response.status == 200:
            response.close()
            raise UpstreamProtocolError(str(error)) from error
        # What an error says is lost, what it is is not.


async def _read_up_to(response: Response, limit: int) -> bytes:
    """Return the body, or at least one byte more than `limit` of it."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= limit and (piece := await read_available(response)):
            pieces.append(piece)
            size += len(piece)
            # The first piece usually is all: this spares the read that would return nothing.
            if response.exhausted and response.decoder is None:
                break
    except BaseException:
        response.close()
        raise
    return b"".join(pieces)
