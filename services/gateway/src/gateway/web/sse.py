"""Server-sent events."""

from collections.abc import Sequence

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would buffer the events
)


def encode_events(payloads: Sequence[bytes]) -> bytes:
    """Encode one event per JSON document, all as one write."""
    joined = b"\n\ndata: ".join(payloads)
    if b"\r" in joined or joined.count(b"\n") != 2 * (len(payloads) - 1):
        # A line break would end the field. Between JSON tokens it has no meaning, so each line becomes a data line.
        joined = b"\n\ndata: ".join(b"\ndata: ".join(payload.splitlines()) for payload in payloads)
    return b"data: " + joined + b"\n\n"
