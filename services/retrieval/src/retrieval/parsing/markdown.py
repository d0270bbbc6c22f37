"""Markdown as text: what a browser shows of the page that it makes, with the HTML inside it."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from markdown_it import MarkdownIt

from retrieval.parsing import html, plain
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning
from retrieval.parsing.text_encoding import find_encoding

# The parser takes a hundred times the size of its input in memory, so it gets a section at a time.
SECTION_CHARACTERS = 32_000
# A footnote of one word is a link's target to CommonMark, and would vanish.
_FOOTNOTE = re.compile(r"^( {0,3}\[\^[^\]\s]+\]):")
_TABLE = re.compile(r"<(/?)table\b", re.IGNORECASE)


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """The text by section; Markdown has no pages."""
    encoding = find_encoding(document)
    yield from encoding.warnings
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for section in _sections(plain.pieces(document, encoding.codec)):
        yield from html.page_texts(parser.render(section))


def _sections(pieces: Iterator[str]) -> Iterator[str]:
    """The source, cut at blank lines outside of fenced code and HTML tables, or anywhere when it is too large."""
    lines: list[str] = []
    size, fence, tables = 0, "", 0
    for line in (line for piece in pieces for line in piece.splitlines(keepends=True)):
        opening = line.strip()[:3]
        if opening in {"```", "~~~"}:
            fence = "" if fence == opening else fence or opening
        if tables and not line.strip():
            # Markdown would end the table here, and take indented rows for code.
            continue
        lines.append(line if fence else _FOOTNOTE.sub(r"\1\\:", line))
        size += len(line)
        tables = 0 if fence else max(tables + sum(-1 if end else 1 for end in _TABLE.findall(line)), 0)
        full = size > SECTION_CHARACTERS and not fence and not tables and not line.strip()
        if full or size > 8 * SECTION_CHARACTERS:
            yield "".join(lines)
            lines, size, tables = [], 0, 0
    yield "".join(lines)
