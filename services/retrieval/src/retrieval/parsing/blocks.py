"""Text as every reader leaves it: no control characters, one kind of line end, in blocks."""

import re
from collections.abc import Iterator

from retrieval.domain.documents import Block

BLOCK_CHARACTERS = 8_000

# Everything below space but tab and newline, the delete and C1 ranges, lone surrogates, and non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n){2,}")


def blocks(page: int, text: str) -> Iterator[Block]:
    """Cut `text` at line ends, or spaces, or anywhere; of blank lines in a row one is left."""
    clean = _BLANK_LINES.sub("\n\n", _UNPRINTABLE.sub("", _LINE_ENDS.sub("\n", text)))
    start = 0
    while start < len(clean):
        end = _cut(clean, start)
        piece = clean[start:end]
        if not piece.isspace():
            yield Block(page, piece)
        start = end


def _cut(text: str, start: int) -> int:
    """Where the block ends that begins at `start`."""
    end = start + BLOCK_CHARACTERS
    if end >= len(text):
        return len(text)
    for mark in ("\n", " "):
        # In the second half only, so that the blocks do not get small.
        found = text.rfind(mark, start + BLOCK_CHARACTERS // 2, end)
        if found >= 0:
            return found + 1
    return end
