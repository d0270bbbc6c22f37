"""Markdown: its text without its marks."""

from collections.abc import Iterator
from typing import BinaryIO

from markdown_it import MarkdownIt
from markdown_it.token import Token

from retrieval.adapters.parsers import plain

# A whole book at once would take a hundred times its size in memory.
SECTION_CHARACTERS = 32_000


def read(document: BinaryIO) -> Iterator[tuple[int, str]]:
    """Text, a section at a time; Markdown has no pages."""
    parser = MarkdownIt("commonmark").enable("table")
    for section in _sections(document):
        yield 0, "".join(_texts(parser.parse(section)))


def _sections(document: BinaryIO) -> Iterator[str]:
    """The source, cut at blank lines outside of fenced code."""
    held: list[str] = []
    size, fence = 0, ""
    for line in _lines(document):
        held.append(line)
        size += len(line)
        mark = line.strip()[:3]
        if mark in {"```", "~~~"}:
            fence = "" if fence == mark else fence or mark
        full = size > SECTION_CHARACTERS and not fence and not line.strip()
        if full or size > 8 * SECTION_CHARACTERS:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def _lines(document: BinaryIO) -> Iterator[str]:
    for _, text in plain.read(document):
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
            # A blank line ends a sentence for the chunker, which a heading needs.
            yield "\n" if token.hidden or token.type in {"tr_close", "list_item_close"} else "\n\n"


def _inline(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"text", "code_inline"}:
            yield token.content
        elif token.type in {"softbreak", "hardbreak"}:
            yield "\n"
        elif token.type == "image":
            yield from _inline(token.children or [])
