"""Helpers for raw ASGI routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from io import BytesIO
from typing import Any, TypeAlias

from chassis.errors import ArgosyError, Kind

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")


class RequestTooLarge(ArgosyError):
    """The body of the request is larger than this route accepts."""

    kind, reason = Kind.TOO_LARGE, "REQUEST_TOO_LARGE"


class ClientDisconnected(ArgosyError, public=False):
    """The client closed the connection before the response was complete."""

    kind, reason = Kind.CANCELLED, "CLIENT_DISCONNECTED"


class Routes:
    """Routes by exact (method, path); another application gets all other requests."""

    def __init__(self, table: Mapping[tuple[str, str], ASGIApp], fallback: ASGIApp) -> None:
        self._table = dict(table)
        self._fallback = fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            handler = self._table.get((scope["method"], scope["path"]), self._fallback)
        else:
            handler = self._fallback
        await handler(scope, receive, send)


async def read_body(receive: Receive, limit_bytes: int, on_progress: Callable[[int], None] | None = None) -> bytes:
    """Read a request's body. Raises `RequestTooLarge` beyond `limit_bytes`, and `ClientDisconnected`.

    `on_progress` gets the size so far of a body that arrives in several pieces, before the piece is kept; it may raise.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")  # nearly always the body is one message
        _check_size(limit_bytes, len(body))
        return body
    # A BytesIO hands its buffer over; a bytearray would be copied, and the body be in memory twice.
    chunks, size_bytes = BytesIO(), 0
    while message["type"] == "http.request":
        chunk = message.get("body", b"")
        size_bytes += len(chunk)
        _check_size(limit_bytes, size_bytes)
        if on_progress is not None:
            on_progress(size_bytes)
        chunks.write(chunk)
        if not message.get("more_body", False):
            return chunks.getvalue()
        message = await receive()
    raise ClientDisconnected("The client disconnected while it was sending.")


async def send_json(send: Send, status: int, payload: bytes, headers: Iterable[Header] = ()) -> None:
    """Send a JSON response; `payload` is serialized already."""
    length = (b"content-length", b"%d" % len(payload))
    await send({"type": "http.response.start", "status": status, "headers": [JSON, length, *headers]})
    await send({"type": "http.response.body", "body": payload})


def _check_size(limit_bytes: int, size_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise RequestTooLarge(f"The request's body is larger than {limit_bytes} bytes.")
