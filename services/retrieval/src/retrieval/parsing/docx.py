"""Word documents, of 2007 and later, as text: what a reader of the printed page sees."""

from collections.abc import Iterator
from typing import BinaryIO

from retrieval.parsing.blocks import coalesce
from retrieval.parsing.docx_numbering import Numbering
from retrieval.parsing.docx_text import Story
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning
from retrieval.parsing.ooxml import Package, child


def read(document: BinaryIO, limits: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """Headers, then the body with each note after its paragraph, then footers. The format has no pages.

    Raises UnindexableFile when the archive expands to more than its limit.
    """
    package = Package(document, limits)
    main = package.main_part("word/document.xml")
    root = package.xml(main)
    if root is None:
        raise ValueError("the archive has no document")
    targets = {item.kind: item.target for item in package.relationships(main).values()}
    numbering = Numbering(package.xml(targets.get("numbering", "")), package.xml(targets.get("styles", "")))
    settings = package.xml(targets.get("settings", ""))
    story = Story(package, main, numbering, targets)
    body = child(root, "body")
    if body is None:
        raise ValueError("the document has no body")
    yield from coalesce(0, story.headers(body, settings))
    yield from coalesce(0, story.paragraphs(body))
    yield from coalesce(0, story.footers(body, settings))
    yield from story.warnings()
