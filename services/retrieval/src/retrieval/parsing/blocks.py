"""Cleans text and cuts it into blocks: no control characters, one kind of line end."""

import re
from collections.abc import Iterable, Iterator

from retrieval.parsing.model import Block

MAX_BLOCK_CHARACTERS = 8_000

# Below space all but tab and newline; the delete and C1 ranges; the soft hyphen, which would split a word for a search;
# lone surrogates; the mark of byte order; non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# A soft hyphen is shown at the end of a line only: the word goes on there.
_BROKEN_WORD = re.compile(r"\n?\xad[^\S\n]*\n[^\S\n]*(?=\w)")
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n){2,}")


def to_blocks(page: int, text: str) -> Iterator[Block]:
    """Cut `text` at line ends, else at spaces, else anywhere. Blank lines in a row become one."""
    unbroken = _BROKEN_WORD.sub("", _LINE_ENDS.sub("\n", text))
    clean = _BLANK_LINES.sub("\n\n", _UNPRINTABLE.sub("", unbroken))
    start = 0
    while start < len(clean):
        end = _block_end(clean, start)
        piece = clean[start:end]
        if not piece.isspace():
            yield Block(page, piece)
        start = end


def coalesce(page: int, texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Join short texts, so that each block has some thousand characters."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= MAX_BLOCK_CHARACTERS:
            yield page, "".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield page, "".join(waiting)


def _block_end(text: str, start: int) -> int:
    end = start + MAX_BLOCK_CHARACTERS
    if end >= len(text):
        return len(text)
    for separator in ("\n", " "):
        # Only in the second half, so that blocks are not small.
        found = text.rfind(separator, start + MAX_BLOCK_CHARACTERS // 2, end)
        if found >= 0:
            return found + 1
    return end
