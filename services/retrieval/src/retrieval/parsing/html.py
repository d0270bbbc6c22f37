"""HTML as text: what a browser shows."""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from selectolax.lexbor import LexborHTMLParser, LexborNode

from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, WarningCode
from retrieval.parsing.text_encoding import decode, find_encoding

HIDDEN_ELEMENTS = ["script", "style", "noscript", "template", "head", "nav", "iframe", "object", "datalist"]
PARAGRAPH_ELEMENTS = (
    "p, h1, h2, h3, h4, h5, h6, blockquote, pre, table, ul, ol, dl, section, article, header, footer, figure, hr"
)
LINE_ELEMENTS = "li, tr, dt, dd, div, option, caption, figcaption, legend, summary, text"
AFTER_ELEMENTS = (("br", "\n"), ("td, th", "\t"))
# Between these a browser shows no white space.
TABLE_PARTS = {"table", "thead", "tbody", "tfoot", "tr", "colgroup"}
HIDDEN_BY_PAGE = '[hidden], [style*="display:none"], [style*="display: none"]'
SHOWN_INPUTS = {"", "text", "email", "number", "tel", "url", "date", "search", "submit", "button"}
# Declarations are looked for in the beginning of a page.
DECLARATION_BYTES = 64 * 1024

_SPACES = re.compile(r"[ \t\n\r\f]+")
_XML_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w:.-]+)""", re.IGNORECASE)
_TAG = re.compile(rb"<!--.*?-->|<meta[\s/]((?:\"[^\"]*\"|'[^']*'|[^>\"'])*)>", re.IGNORECASE | re.DOTALL)
_ATTRIBUTE = re.compile(rb"""([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>;/]+))""")
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([\w:.-]+)""", re.IGNORECASE)


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """The title, then the body; HTML has no pages."""
    head = document.read(DECLARATION_BYTES)
    document.seek(0)
    encoding = find_encoding(document, declared_charset(head))
    yield from encoding.warnings
    yield from page_texts("".join(decode(document, encoding.codec)))


def texts(content: bytes, charset: str = "") -> Iterator[tuple[int, str] | FileWarning]:
    """The same for HTML inside of another document, whose declaration of a charset goes first."""
    document = io.BytesIO(content)
    encoding = find_encoding(document, charset or declared_charset(content[:DECLARATION_BYTES]))
    yield from page_texts("".join(decode(document, encoding.codec)))


def declared_charset(head: bytes) -> str:
    """The label in the page's first declaration that is not in a comment, as in the Encoding Standard's prescan."""
    found = _XML_DECLARATION.search(head)
    if found is not None:
        return found[1].decode("ascii", "ignore")
    for tag in _TAG.finditer(head):
        attributes = {
            name.lower(): double or single or bare for name, double, single, bare in _ATTRIBUTE.findall(tag[1] or b"")
        }
        label = attributes.get(b"charset", b"")
        if not label and attributes.get(b"http-equiv", b"").lower() == b"content-type":
            content = _CHARSET.search(attributes.get(b"content", b""))
            label = content[1] if content is not None else b""
        if label:
            return str(label, "ascii", "ignore")
    return ""


def page_texts(source: str) -> Iterator[tuple[int, str] | FileWarning]:
    tree = LexborHTMLParser(source)
    title = tree.css_first("head > title")
    if title is not None:
        yield 0, f"{title.text(strip=True)}\n\n"
    if tree.css_first("nav") is not None:
        yield FileWarning(WarningCode.NAVIGATION, "the navigation of the page is not searchable")
    if tree.css_first(HIDDEN_BY_PAGE) is not None:
        yield FileWarning(WarningCode.HIDDEN_TEXT, "text that the page hides is not searchable")
    tree.strip_tags(HIDDEN_ELEMENTS)
    _hide_and_show(tree)
    _collapse_spaces(tree)
    # Text nodes that a browser shows apart are put apart with blank lines, line ends and tabs.
    for selector, separator in ((PARAGRAPH_ELEMENTS, "\n\n"), (LINE_ELEMENTS, "\n")):
        for node in tree.css(selector):
            node.insert_before(separator)
            node.insert_after(separator)
    for selector, separator in AFTER_ELEMENTS:
        for node in tree.css(selector):
            node.insert_after(separator)
    if tree.body is not None:
        yield 0, tree.body.text(deep=True, separator="")


def _collapse_spaces(tree: LexborHTMLParser) -> None:
    """A line end in the source is a space on the page, and none between the cells of a table."""
    root = tree.root
    kept = {text.mem_id for block in tree.css("pre, textarea") for text in block.traverse(include_text=True)}
    for node in list(root.traverse(include_text=True)) if root is not None else ():
        if node.tag != "-text" or node.mem_id in kept:
            continue
        text = node.text_content or ""
        collapsed = _SPACES.sub(" ", text)
        parent = node.parent
        if collapsed == " " and parent is not None and parent.tag in TABLE_PARTS:
            node.decompose()
        elif collapsed != text:
            node.replace_with(collapsed)


def _hide_and_show(tree: LexborHTMLParser) -> None:
    """Drop what the page hides, and write down what a browser shows without a text node."""
    for node in tree.css(HIDDEN_BY_PAGE):
        node.decompose()
    # Of a drawing, its words.
    for node in tree.css("svg > title, svg > desc, svg > style, svg > script, svg > defs"):
        node.decompose()
    for node in tree.css("input[value]"):
        if (node.attributes.get("type") or "").lower() in SHOWN_INPUTS:
            _insert(node, node.attributes.get("value"))
    for node in tree.css("img[alt]"):
        _insert(node, node.attributes.get("alt"))
    # The reading of a word, beside it; pages that write the brackets have them in "rp".
    for node in tree.css("rt") if tree.css_first("rp") is None else ():
        node.insert_before("(")
        node.insert_after(")")


def _insert(node: LexborNode, text: str | None) -> None:
    if text:
        node.insert_after(f" {text} ")
