"""HTML: what a reader of the page would read."""

from collections.abc import Iterator
from typing import BinaryIO

from selectolax.lexbor import LexborHTMLParser

from retrieval.adapters.parsers import plain

UNREAD = ["script", "style", "noscript", "template", "svg", "head", "nav", "iframe", "object"]
PARAGRAPHS = (
    "p, h1, h2, h3, h4, h5, h6, blockquote, pre, table, ul, ol, dl, section, article, header, footer, figure, hr"
)
LINES = "br, li, tr, dt, dd, div, option"
CELLS = "td, th"


def read(document: BinaryIO) -> Iterator[tuple[int, str]]:
    """The title, then the body; HTML has no pages."""
    tree = LexborHTMLParser("".join(plain.decoded(document)))
    title = tree.css_first("head > title")
    if title is not None:
        yield 0, f"{title.text(strip=True)}\n\n"
    tree.strip_tags(UNREAD)
    # Elements are not text: put into it where they end what the eye sees them end.
    for selector, mark in ((PARAGRAPHS, "\n\n"), (LINES, "\n"), (CELLS, "\t")):
        for node in tree.css(selector):
            node.insert_before(mark if mark != "\t" else "")
            node.insert_after(mark)
    if tree.body is not None:
        yield 0, tree.body.text(deep=True, separator="")
