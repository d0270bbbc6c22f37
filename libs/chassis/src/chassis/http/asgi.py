"""The few pieces of raw ASGI that hot routes need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

from chassis.errors import ArgosyError, Kind

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")


class RequestTooLarge(ArgosyError):
    """The body of the request is larger than this route takes."""

    kind, reason = Kind.TOO_LARGE, "REQUEST_TOO_LARGE"


class ClientDisconnected(ArgosyError, public=False):
    """The client closed the connection before the answer was complete."""

    kind, reason = Kind.CANCELLED, "CLIENT_DISCONNECTED"


class Routes:
    """A table of exact (method, path) in front of another application, which gets everything else."""

    def __init__(self, table: Mapping[tuple[str, str], ASGIApp], fallback: ASGIApp) -> None:
        self._table = dict(table)
        self._fallback = fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one lifespan of the application behind."""
        if scope["type"] == "http":
            handler = self._table.get((scope["method"], scope["path"]), self._fallback)
        else:
            handler = self._fallback
        await handler(scope, receive, send)


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """Read a request's body. Raises `RequestTooLarge` as soon as it is, `ClientDisconnected` when it breaks off."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")  # the usual case: one piece
        _refuse_beyond(limit_bytes, body)
        return body
    pieces = bytearray()
    while message["type"] == "http.request":
        pieces += message.get("body", b"")
        _refuse_beyond(limit_bytes, pieces)
        if not message.get("more_body", False):
            return bytes(pieces)
        message = await receive()
    raise ClientDisconnected("The client went away while it was sending.")


async def send_json(send: Send, status: int, payload: bytes, headers: Iterable[Header] = ()) -> None:
    """Answer with JSON that is ready to send."""
    length = (b"content-length", b"%d" % len(payload))
    await send({"type": "http.response.start", "status": status, "headers": [JSON, length, *headers]})
    await send({"type": "http.response.body", "body": payload})


def _refuse_beyond(limit_bytes: int, body: bytes | bytearray) -> None:
    if len(body) > limit_bytes:
        raise RequestTooLarge(f"The request's body is larger than {limit_bytes} bytes.")
