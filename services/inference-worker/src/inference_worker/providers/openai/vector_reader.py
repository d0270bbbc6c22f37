"""Reads the vectors of an embeddings answer as it arrives, so that only they are kept, and not their text.

A number of four bytes has up to 25 characters as JSON, and is an object of 24 bytes once it is parsed.
"""

import base64
import binascii
import math
import re
from array import array

import orjson
from values.embeddings import FLOAT_BYTES
from values.limits import MAX_DIMENSIONS

from inference_worker.providers.model import UpstreamProtocolError, VectorsTooLarge

_KEY = b'"embedding"'
"""Never within a text of the document: its quotes are escaped there."""
_VALUE = re.compile(rb'"embedding"[ \t\r\n]*:[ \t\r\n]*([\["])')
_BEGINNING = re.compile(rb'"embedding"[ \t\r\n]*:?[ \t\r\n]*')
_MAX_BEGINNING_BYTES = 256
MAX_VECTOR_CHARACTERS = MAX_DIMENSIONS * 26
"""Of one vector: a number of double precision has up to 24 characters, a comma and a space."""


class VectorReader:
    """Takes the values of `embedding` out of the document, and leaves their places in the list of `vectors`."""

    def __init__(self, max_bytes: int, max_other_bytes: int) -> None:
        """`max_bytes` of vectors, and `max_other_bytes` of what stands around them."""
        self.vectors: list[bytes] = []
        self._left = max_bytes
        self._other_left = max_other_bytes
        self._buffer = bytearray()
        self._document: list[bytes] = []
        self._end = b""
        """What ends the value that is being read; empty outside of one."""
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Read what has arrived.

        Raises `UpstreamProtocolError` for a vector that cannot be parsed, and `VectorsTooLarge`.
        """
        self._buffer += data
        while self._read_value() if self._end else self._find_value():
            pass

    def document(self) -> bytes:
        """Return the document; in place of a vector stands its place in `vectors`, as a string."""
        self._keep(len(self._buffer))
        return b"".join(self._document)

    def _find_value(self) -> bool:
        """Keep what stands before the next value. False when more has to arrive."""
        start = self._buffer.find(_KEY)
        if start < 0:
            # The end may be the beginning of a key.
            self._keep(max(0, len(self._buffer) - len(_KEY)))
            return False
        found = _VALUE.match(self._buffer, start)
        if found is not None:
            self._end, self._searched = (b"]" if found[1] == b"[" else b'"'), 1
            self._keep(found.end() - 1)
            return True
        rest = len(self._buffer) - start
        if rest < _MAX_BEGINNING_BYTES and _BEGINNING.fullmatch(self._buffer, start):
            self._keep(start)
            return False
        self._keep(start + len(_KEY))
        return True

    def _read_value(self) -> bool:
        """Parse a value that is whole. False when more has to arrive."""
        end = self._buffer.find(self._end, self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_VECTOR_CHARACTERS:
                raise UpstreamProtocolError(f"the upstream sent a vector of more than {MAX_DIMENSIONS} numbers")
            return False
        vector = parse_floats(bytes(self._buffer[: end + 1]))
        self._left -= len(vector)
        if self._left < 0:
            raise VectorsTooLarge(len(vector) // FLOAT_BYTES)
        del self._buffer[: end + 1]
        self._document.append(b'"%d"' % len(self.vectors))
        self.vectors.append(vector)
        self._end = b""
        return True

    def _keep(self, length: int) -> None:
        """Move the first bytes from the buffer to the document."""
        self._other_left -= length
        if self._other_left < 0:
            raise UpstreamProtocolError("the upstream's response is too large")
        if length:
            self._document.append(bytes(self._buffer[:length]))
            del self._buffer[:length]


def parse_floats(text: bytes) -> bytes:
    """Return little-endian 32-bit floats of a JSON list of numbers, or of a JSON string with them in base64.

    Raises `UpstreamProtocolError`.
    """
    try:
        value = orjson.loads(text)
        numbers = array("f", base64.b64decode(value, validate=True) if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise UpstreamProtocolError("the upstream sent a vector that cannot be parsed") from error
    # One infinite or missing number would spoil every search that compares with it.
    if not numbers or not math.isfinite(sum(numbers)):
        raise UpstreamProtocolError("the upstream sent a vector without finite numbers")
    return numbers.tobytes()
