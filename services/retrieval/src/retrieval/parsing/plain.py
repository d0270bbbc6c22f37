"""Plain text, in whatever encoding it comes."""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

PIECE_BYTES = 64 * 1024


def read(document: BinaryIO) -> Iterator[tuple[int, str]]:
    """Text in pieces of whole lines, unless a line is longer than a piece; plain text has no pages."""
    held = ""
    for text in decoded(document):
        held += text
        if len(held) >= PIECE_BYTES:
            end = held.rfind("\n") + 1 or len(held)
            yield 0, held[:end]
            held = held[end:]
    if held:
        yield 0, held


def decoded(document: BinaryIO) -> Iterator[str]:
    """The document's characters, piece by piece."""
    decoder = codecs.getincrementaldecoder(encoding_of(document))("replace")
    while piece := document.read(PIECE_BYTES):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def encoding_of(document: BinaryIO) -> str:
    """What the byte order mark says; else UTF-8 if all of it is; else Windows' Latin letters, which anything is."""
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
