"""Bodies that are compressed although nobody asked for it, decoded in pieces of bounded size."""

import zlib
from collections.abc import Callable
from typing import Protocol

import brotli  # type: ignore[import-untyped]

MAX_PIECE_BYTES = 256 * 1024
"""Largest piece of a decoded body: a few bytes may stand for gigabytes."""

_RAW_DEFLATE = -zlib.MAX_WBITS
_GZIP = 16 + zlib.MAX_WBITS


class EncodingError(Exception):
    """A body is not in the encoding that its header names, or the encoding is unknown."""


class ContentDecoder(Protocol):
    """Decodes one body."""

    @property
    def pending(self) -> bool:
        """Whether `decode(b"")` has more without another byte."""

    @property
    def complete(self) -> bool:
        """Whether the encoded body has ended, and not in its middle."""

    def decode(self, data: bytes) -> bytes:
        """Return the next piece, at most `MAX_PIECE_BYTES`; it may be empty. Raises `EncodingError`."""


def new_decoder(content_encoding: str) -> ContentDecoder | None:
    """Return a decoder for the value of the header; None for a body as it is. Raises `EncodingError`."""
    encodings = [name for part in content_encoding.split(",") if (name := part.strip()) not in ("", "identity")]
    if not encodings:
        return None
    decoders: dict[str, Callable[[str], ContentDecoder]] = {
        "gzip": _Zlib,
        "x-gzip": _Zlib,
        "deflate": _Zlib,
        "br": _Brotli,
    }
    if len(encodings) > 1 or encodings[0] not in decoders:
        raise EncodingError(f"the upstream compressed its response by {content_encoding[:40]}, which is not known here")
    return decoders[encodings[0]](encodings[0])


class _Zlib:
    """gzip, also of several members, and deflate with the frame of zlib or, as some servers send it, without."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._wbits = _GZIP if name != "deflate" else zlib.MAX_WBITS
        self._inner = zlib.decompressobj(self._wbits)
        self._rest = b""
        self._head = b""
        """What was decoded so far, up to the two bytes by which the frame of zlib is told from none."""

    @property
    def pending(self) -> bool:
        return bool(self._rest)

    @property
    def complete(self) -> bool:
        return self._inner.eof and not self._rest

    def decode(self, data: bytes) -> bytes:
        data = self._rest + data
        if self._inner.eof and data:
            if self._name == "deflate" or not data.startswith(b"\x1f"):
                # Padding after the end is ignored, as by gzip itself.
                self._rest = b""
                return b""
            self._inner = zlib.decompressobj(self._wbits)
        decoded = self._decompress(data)
        self._rest = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
        return decoded

    def _decompress(self, data: bytes) -> bytes:
        head = self._head
        if len(head) < 2:
            self._head += data[:2]
        try:
            return self._inner.decompress(data, MAX_PIECE_BYTES)
        except zlib.error as error:
            if len(head) >= 2 or self._name != "deflate" or self._wbits == _RAW_DEFLATE:
                raise _not(self._name) from error
        self._wbits = _RAW_DEFLATE
        self._inner = zlib.decompressobj(self._wbits)
        return self._decompress(head + data)


class _Brotli:
    def __init__(self, name: str) -> None:
        self._name = name
        self._inner = brotli.Decompressor()
        self._more = False

    @property
    def pending(self) -> bool:
        return self._more

    @property
    def complete(self) -> bool:
        return bool(self._inner.is_finished())

    def decode(self, data: bytes) -> bytes:
        try:
            decoded: bytes = self._inner.process(data, output_buffer_limit=MAX_PIECE_BYTES)
        except brotli.error as error:
            raise _not(self._name) from error
        # It does not tell whether more of its output waits: only a call that returns nothing says so.
        self._more = bool(decoded) and not self._inner.is_finished()
        return decoded


def _not(name: str) -> EncodingError:
    return EncodingError(f"the upstream's response is not {name}, although its header says so")
