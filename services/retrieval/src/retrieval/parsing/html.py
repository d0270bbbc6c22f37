"""HTML as text: what a browser shows."""

from collections.abc import Iterator
from typing import BinaryIO

from selectolax.lexbor import LexborHTMLParser

from retrieval.parsing import plain
from retrieval.parsing.limits import Limits

HIDDEN_ELEMENTS = ["script", "style", "noscript", "template", "svg", "head", "nav", "iframe", "object"]
PARAGRAPH_ELEMENTS = (
    "p, h1, h2, h3, h4, h5, h6, blockquote, pre, table, ul, ol, dl, section, article, header, footer, figure, hr"
)
LINE_ELEMENTS = "br, li, tr, dt, dd, div, option"
CELL_ELEMENTS = "td, th"


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str]]:
    """The title, then the body; HTML has no pages."""
    tree = LexborHTMLParser("".join(plain.decode(document)))
    title = tree.css_first("head > title")
    if title is not None:
        yield 0, f"{title.text(strip=True)}\n\n"
    tree.strip_tags(HIDDEN_ELEMENTS)
    # Text nodes that a browser shows apart are put apart with blank lines, line ends and tabs.
    for selector, separator in ((PARAGRAPH_ELEMENTS, "\n\n"), (LINE_ELEMENTS, "\n"), (CELL_ELEMENTS, "\t")):
        for node in tree.css(selector):
            node.insert_before(separator if separator != "\t" else "")
            node.insert_after(separator)
    if tree.body is not None:
        yield 0, tree.body.text(deep=True, separator="")
