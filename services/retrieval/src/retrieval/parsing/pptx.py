"""Presentations of PowerPoint, of 2007 and later: the slides in their order, as pages."""

from collections.abc import Iterator
from typing import BinaryIO
from xml.etree.ElementTree import Element

from retrieval.parsing.blocks import coalesce
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, WarningCode
from retrieval.parsing.ooxml import Package, Relationship, attribute, child, drawn_texts, local_name

# Numbers and dates of a slide say nothing of it.
MARGINS = {"sldNum", "dt"}
TITLES = {"title", "ctrTitle"}
# Shapes whose tops differ by less stand beside each other, in English Metric Units: a tenth of an inch.
LINE_HEIGHT = 91_440


def read(document: BinaryIO, limits: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """Of each slide that is shown its title, its other shapes, and the speaker's notes.

    Raises UnindexableFile when the archive expands to more than its limit.
    """
    package = Package(document, limits)
    main = package.main_part("ppt/presentation.xml")
    slides = package.relationships(main)
    order = child(package.xml(main), "sldIdLst")
    reader = _Reader(package)
    for number, item in enumerate(order if order is not None else (), start=1):
        found = slides.get(_relationship_id(item))
        if found is not None:
            yield from coalesce(number, reader.slide(found.target))
    yield from reader.warnings.values()


def _relationship_id(item: Element) -> str:
    """The attribute `r:id`; there is an `id` of another kind beside it."""
    return next((value for key, value in item.attrib.items() if key.startswith("{") and key.endswith("}id")), "")


class _Reader:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._relationships: dict[str, Relationship] = {}
        self.warnings: dict[str, FileWarning] = {}

    def slide(self, part: str) -> Iterator[str]:
        root = self._package.xml(part)
        if root is None:
            return
        if attribute(root, "show", "1") in {"0", "false"}:
            self._warn(WarningCode.HIDDEN_TEXT, "slides that the presentation hides are not searchable")
            return
        self._relationships = self._package.relationships(part)
        kinds = {item.kind: item.target for item in self._relationships.values()}
        if "comments" in kinds:
            self._warn(WarningCode.COMMENTS, "comments are not searchable")
        yield from self._shapes(child(root, "cSld", "spTree"))
        notes = self._package.xml(kinds.get("notesSlide", ""))
        for shape in child(notes, "cSld", "spTree") or ():
            if _placeholder(shape) == "body":
                yield from self._shape(shape)

    def _shapes(self, tree: Element | None) -> Iterator[str]:
        shapes = [item for item in (tree if tree is not None else ()) if _placeholder(item) not in MARGINS]
        places = [_place(shape) for shape in shapes]
        if all(place is not None or _is_title(shape) for shape, place in zip(shapes, places, strict=True)):
            shapes = [shapes[index] for index in sorted(range(len(shapes)), key=lambda at: (places[at] or (0, 0), at))]
        for shape in sorted(shapes, key=lambda shape: not _is_title(shape)):
            yield from self._shape(shape)

    def _shape(self, shape: Element) -> Iterator[str]:
        name = local_name(shape)
        if _is_hidden(_properties(shape)):
            self._warn(WarningCode.HIDDEN_TEXT, "shapes that the presentation hides are not searchable")
        elif name == "grpSp":
            yield from self._shapes(shape)
        elif name == "AlternateContent":
            # Both branches show the same.
            yield from self._shapes(next(iter(shape), None))
        elif name == "pic":
            self._warn(WarningCode.PICTURES, "text in pictures is not read")
        elif name == "sp":
            text = _paragraphs(child(shape, "txBody"), "\n")
            yield f"{text}\n\n" if text else ""
        elif name == "graphicFrame":
            yield from self._frame(shape)

    def _frame(self, frame: Element) -> Iterator[str]:
        """A table, a row a line, or the words of a diagram or chart."""
        for item in frame.iter():
            name = local_name(item)
            if name == "tr":
                yield "\t".join(_paragraphs(child(cell, "txBody"), " ") for cell in item if local_name(cell) == "tc")
                yield "\n"
            elif name in {"relIds", "chart"}:
                found = self._relationships.get(attribute(item, "dm") or attribute(item, "id"))
                root = self._package.xml(found.target) if found is not None else None
                yield "\n".join(drawn_texts(root)) + "\n\n"
        yield "\n"

    def _warn(self, code: WarningCode, message: str) -> None:
        self.warnings[code] = FileWarning(code, message)


def _properties(shape: Element) -> Element | None:
    """`cNvPr` of whichever kind of shape."""
    return next((found for item in shape if (found := child(item, "cNvPr")) is not None), None)


def _is_hidden(properties: Element | None) -> bool:
    return properties is not None and attribute(properties, "hidden", "0") in {"1", "true"}


def _placeholder(shape: Element) -> str:
    """What the layout has in this place, as in "title"; empty for a shape of the slide's own."""
    for item in shape:
        found = child(item, "nvPr", "ph")
        if found is not None:
            return attribute(found, "type", "body")
    return ""


def _is_title(shape: Element) -> bool:
    return _placeholder(shape) in TITLES


def _place(shape: Element) -> tuple[int, int] | None:
    """The line and the left edge; None for a shape whose place is that of its layout, and for what is no shape."""
    if local_name(shape) in {"nvGrpSpPr", "grpSpPr", "extLst"}:
        return (0, 0)
    for item in (
        child(shape, "spPr", "xfrm", "off"),
        child(shape, "grpSpPr", "xfrm", "off"),
        child(shape, "xfrm", "off"),
    ):
        if item is not None:
            return int(attribute(item, "y", "0")) // LINE_HEIGHT, int(attribute(item, "x", "0"))
    return None


def _paragraphs(body: Element | None, separator: str) -> str:
    lines = (
        "".join({"t": item.text or "", "br": "\n", "tab": "\t"}.get(local_name(item), "") for item in paragraph.iter())
        for paragraph in (body if body is not None else ())
        if local_name(paragraph) == "p"
    )
    return separator.join(line.replace("\n", separator) for line in lines if line.strip())
