"""The wire format: limits, statuses, metadata, and batches of frames."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

from argosy.exchange.v1.exchange_pb2 import Batch, Frame

SERVICE_NAME: Final = "argosy.exchange.v1.Exchange"
OPEN_METHOD: Final = f"/{SERVICE_NAME}/Open"
VERSION_METADATA: Final = ("argosy-exchange", "1")

WINDOW_BYTES: Final = 262_144  # what one side of a call may send before it receives credit
PAYLOAD_OVERHEAD_BYTES: Final = (
    64  # counted for each payload besides its own bytes, which bounds the number of small ones
)
MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
MAX_MESSAGE_BYTES: Final = MAX_PAYLOAD_BYTES + 64 * 1024  # gRPC's limit: the largest payload with its frame and batch
MAX_CALLS: Final = 10_000  # in flight on one stream


class Log(Protocol):
    """A structured logger of the host."""

    def debug(self, event: str, /, **fields: Any) -> None: ...

    def warning(self, event: str, /, **fields: Any) -> None: ...


class Status(NamedTuple):
    """How a call ended: a gRPC status code and message; `details` is a serialized google.rpc.Status."""

    code: int
    message: str = ""
    details: bytes = b""
    metadata: tuple[tuple[str, str], ...] = ()


def flatten_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[str]:
    """Turn gRPC's pairs into alternating keys and values; bytes become base64."""
    return [text for key, value in metadata for text in (key, _to_text(value))]


def parse_metadata(flat: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    """Turn alternating keys and values into gRPC's pairs. Raises `ValueError` when they are malformed.

    As in gRPC, the values of keys that end in "-bin" are bytes; on the wire they are base64.
    """
    texts = list(flat)
    return tuple(
        (key, base64.b64decode(value, validate=True) if key.endswith("-bin") else value)
        for key, value in zip(texts[::2], texts[1::2], strict=True)
    )


def decode_batch(data: bytes) -> Iterable[Frame]:
    """Return the frames of a batch. Raises `DecodeError`."""
    return Batch.FromString(data).frames


def _to_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else base64.b64encode(value).decode()
