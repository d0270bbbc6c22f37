"""Plain text in any encoding that is marked or can be detected."""

from collections.abc import Iterator
from typing import BinaryIO

from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning
from retrieval.parsing.text_encoding import PIECE_BYTES, decode, find_encoding


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """The text in pieces of complete lines, unless one line is longer than a piece; plain text has no pages."""
    encoding = find_encoding(document)
    yield from encoding.warnings
    for text in pieces(document, encoding.codec):
        yield 0, text


def pieces(document: BinaryIO, codec: str) -> Iterator[str]:
    buffer = ""
    for text in decode(document, codec):
        buffer += text
        if len(buffer) >= PIECE_BYTES:
            end = buffer.rfind("\n") + 1 or len(buffer)
            yield buffer[:end]
            buffer = buffer[end:]
    if buffer:
        yield buffer
