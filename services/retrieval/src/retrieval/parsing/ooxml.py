"""The container of Office documents: a ZIP archive of XML parts that refer to each other by relationships."""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError, fromstring

from retrieval.parsing.limits import Limits
from retrieval.parsing.model import IngestionErrorCode, UnindexableFile

PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Relationship:
    """`kind` is the last word of the type's address, as in "header"; `target` is the name of a part."""

    kind: str
    target: str


class Package:
    """Reads the parts of an archive. Raises UnindexableFile when it expands to more than its limit."""

    def __init__(self, document: BinaryIO, limits: Limits) -> None:
        self._archive = zipfile.ZipFile(document)
        self._names = set(self._archive.namelist())
        if sum(entry.file_size for entry in self._archive.infolist()) > limits.expanded_bytes:
            raise UnindexableFile(
                IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, f"the file expands to more than {limits.expanded_bytes} bytes"
            )

    def has(self, beginning: str) -> bool:
        """Whether the name of any part begins like this."""
        return any(name.startswith(beginning) for name in self._names)

    def has_match(self, beginning: str, pattern: re.Pattern[bytes]) -> bool:
        """Whether a part whose name begins like this has a match, by pieces that overlap by a thousand bytes."""
        for name in sorted(item for item in self._names if item.startswith(beginning)):
            before = b""
            with self._archive.open(name) as part:
                for piece in iter(lambda: part.read(PIECE_BYTES), b""):
                    if pattern.search(before + piece):
                        return True
                    before = piece[-1000:]
        return False

    def read(self, part: str) -> bytes | None:
        return self._archive.read(part) if part in self._names else None

    def xml(self, part: str) -> Element | None:
        """The part's root, or None when there is no such part."""
        content = self.read(part)
        return None if content is None else parse_xml(content)

    def relationships(self, part: str) -> dict[str, Relationship]:
        """By id. Those that lead out of the document are left out."""
        folder, name = posixpath.split(part)
        root = self.xml(posixpath.join(folder, "_rels", f"{name}.rels"))
        return {
            item.get("Id", ""): Relationship(item.get("Type", "").rpartition("/")[2], _resolve(folder, item))
            for item in (root if root is not None else ())
            if item.get("TargetMode") != "External"
        }

    def main_part(self, default: str) -> str:
        found = self.relationships("").values()
        return next((item.target for item in found if item.kind == "officeDocument"), default)


def _resolve(folder: str, item: Element) -> str:
    target = item.get("Target", "")
    return target[1:] if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))


def parse_xml(content: bytes) -> Element:
    """Raises UnindexableFile for entities that expand too much, and ParseError for what is no XML."""
    try:
        return fromstring(content)  # noqa: S314 - expat bounds entities, and this process has limits
    except ParseError as error:
        if "amplification" in str(error):
            raise UnindexableFile(
                IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file's entities expand too much"
            ) from None
        raise


def local_name(element: Element) -> str:
    """The name without its namespace: strict and transitional documents have different ones."""
    return element.tag.rpartition("}")[2]


def attribute(element: Element, name: str, default: str = "") -> str:
    """The attribute of this name, in whichever namespace."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), default)


def child(element: Element | None, *path: str) -> Element | None:
    """The first descendant along the names of `path`."""
    for name in path:
        if element is None:
            return None
        element = next((item for item in element if local_name(item) == name), None)
    return element


def is_on(element: Element | None) -> bool:
    """A switch of a document: present, and its value is not a word for off."""
    return element is not None and attribute(element, "val", "1") not in {"0", "false", "off"}


def drawn_texts(root: Element | None) -> Iterator[str]:
    """The texts of a diagram or chart, a line each: runs of a paragraph joined, and labels of a chart's series."""
    for item in root.iter() if root is not None else ():
        if local_name(item) == "p":
            yield "".join(part.text or "" for part in item.iter() if local_name(part) == "t")
        elif local_name(item) == "v":
            yield item.text or ""
