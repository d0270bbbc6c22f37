"""Server-sent events."""

from collections.abc import Sequence

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would buffer the events
)
COMMENT = b": keep-alive\n\n"
"""Clients ignore it; proxies see that the stream lives."""


def encode_events(payloads: Sequence[bytes]) -> bytes:
    """Encode one event per JSON document, all as one write."""
    joined = b"\n\ndata: ".join(payloads)
    if b"\r" in joined or joined.count(b"\n") != 2 * (len(payloads) - 1):
        # A line break would end the field. Between JSON tokens it has no meaning, so each line becomes a data line.
        joined = b"\n\ndata: ".join(b"\ndata: ".join(payload.splitlines()) for payload in payloads)
    return b"data: " + joined + b"\n\n"


def encode_event(event: str, data: bytes, event_id: str) -> bytes:
    """Encode one JSON document as an event with a type; without an id, the client keeps the one before."""
    head = f"id: {event_id}\nevent: {event}\n" if event_id else f"event: {event}\n"
    lines = b"\ndata: ".join(data.splitlines()) if b"\n" in data or b"\r" in data else data
    return head.encode() + b"data: " + lines + b"\n\n"
