"""Markdown as text, without its markup."""

from collections.abc import Iterator
from typing import BinaryIO

from markdown_it import MarkdownIt
from markdown_it.token import Token

from retrieval.parsing import plain
from retrieval.parsing.limits import Limits

# The parser takes a hundred times the size of its input in memory, so it gets a section at a time.
SECTION_CHARACTERS = 32_000


def read(document: BinaryIO, limits: Limits) -> Iterator[tuple[int, str]]:
    """The text by section; Markdown has no pages."""
    parser = MarkdownIt("commonmark").enable("table")
    for section in _sections(document, limits):
        yield 0, "".join(_texts(parser.parse(section)))


def _sections(document: BinaryIO, limits: Limits) -> Iterator[str]:
    """The source, cut at blank lines outside of fenced code, or anywhere when a section gets eight times too large."""
    lines: list[str] = []
    size, fence = 0, ""
    for line in _read_lines(document, limits):
        lines.append(line)
        size += len(line)
        opening = line.strip()[:3]
        if opening in {"```", "~~~"}:
            fence = "" if fence == opening else fence or opening
        full = size > SECTION_CHARACTERS and not fence and not line.strip()
        if full or size > 8 * SECTION_CHARACTERS:
            yield "".join(lines)
            lines, size = [], 0
    yield "".join(lines)


def _read_lines(document: BinaryIO, limits: Limits) -> Iterator[str]:
    for _, text in plain.read(document, limits):
        yield from text.splitlines(keepends=True)


def _texts(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "inline":
            yield from _inline(token.children or [])
        elif token.type in {"fence", "code_block"}:
            yield f"{token.content}\n"
        elif token.type in {"td_close", "th_close"}:
            yield "\t"
        elif token.type.endswith("_close") and token.block:
            # The splitter takes a blank line for the end of a sentence: a heading has no other.
            yield "\n" if token.hidden or token.type in {"tr_close", "list_item_close"} else "\n\n"


def _inline(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"text", "code_inline"}:
            yield token.content
        elif token.type in {"softbreak", "hardbreak"}:
            yield "\n"
        elif token.type == "image":
            yield from _inline(token.children or [])
