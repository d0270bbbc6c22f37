"""Books in EPUB: the chapters in the order in which they are read, as pages."""

from collections.abc import Iterator
from posixpath import dirname, join, normpath
from typing import BinaryIO
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from retrieval.parsing import html
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, IngestionErrorCode, UnindexableFile, WarningCode
from retrieval.parsing.ooxml import Package, attribute, child, local_name

PAGE_TYPES = {"application/xhtml+xml", "text/html"}
# Fonts may be scrambled with these; text that is encrypted is protected.
FONT_SCRAMBLERS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def read(document: BinaryIO, limits: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """The title and the authors, then each chapter as a page.

    Raises UnindexableFile for a book that is protected, and when the archive expands to more than its limit.
    """
    package = Package(document, limits)
    _check_unprotected(package.xml("META-INF/encryption.xml"))
    container = package.xml("META-INF/container.xml")
    main = next((attribute(item, "full-path") for item in _all(container, "rootfile")), "")
    root = package.xml(main)
    if root is None:
        raise ValueError("the archive has no list of its chapters")
    described = [item.text or "" for name in ("title", "creator") for item in _all(child(root, "metadata"), name)]
    yield 0, "".join(f"{text}\n\n" for text in described)
    items = {attribute(item, "id"): item for item in _all(child(root, "manifest"), "item")}
    for number, reference in enumerate(_all(child(root, "spine"), "itemref"), start=1):
        item = items.get(attribute(reference, "idref"))
        if item is None or attribute(item, "media-type") not in PAGE_TYPES:
            continue
        content = package.read(normpath(join(dirname(main), unquote(attribute(item, "href")))))
        if content is not None:
            for part in html.texts(content):
                yield part if isinstance(part, FileWarning) else (number, part[1])
    if any(attribute(item, "media-type").startswith("image/") for item in items.values()):
        yield FileWarning(WarningCode.PICTURES, "text in pictures is not read")


def _check_unprotected(root: Element | None) -> None:
    for method in _all(root, "EncryptionMethod"):
        if attribute(method, "Algorithm") not in FONT_SCRAMBLERS:
            raise UnindexableFile(IngestionErrorCode.ENCRYPTED_FILE, "the book is protected against copies")


def _all(element: Element | None, name: str) -> list[Element]:
    return [item for item in element.iter() if local_name(item) == name] if element is not None else []
