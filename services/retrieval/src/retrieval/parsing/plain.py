"""Plain text in UTF-8, UTF-16 or Windows-1252."""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

from retrieval.parsing.limits import Limits

PIECE_BYTES = 64 * 1024


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str]]:
    """The text in pieces of complete lines, unless one line is longer than a piece; plain text has no pages."""
    buffer = ""
    for text in decode(document):
        buffer += text
        if len(buffer) >= PIECE_BYTES:
            end = buffer.rfind("\n") + 1 or len(buffer)
            yield 0, buffer[:end]
            buffer = buffer[end:]
    if buffer:
        yield 0, buffer


def decode(document: BinaryIO) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(detect_encoding(document))("replace")
    while piece := document.read(PIECE_BYTES):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def detect_encoding(document: BinaryIO) -> str:
    """By the byte order mark; else UTF-8 if all bytes are valid; else Windows-1252, in which all bytes are valid."""
    head = document.read(4)
    document.seek(0)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    strict = codecs.getincrementaldecoder("utf-8-sig")("strict")
    try:
        for piece in iter(lambda: document.read(io.DEFAULT_BUFFER_SIZE * 16), b""):
            strict.decode(piece)
        strict.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    finally:
        document.seek(0)
    return "utf-8-sig"
