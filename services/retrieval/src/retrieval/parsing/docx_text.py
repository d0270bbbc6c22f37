"""The text of a Word document's parts, paragraph by paragraph."""

from collections.abc import Iterable, Iterator, Mapping
from xml.etree.ElementTree import Element

from retrieval.parsing import html
from retrieval.parsing.docx_numbering import Numbering, to_roman
from retrieval.parsing.model import FileWarning, WarningCode
from retrieval.parsing.ooxml import Package, attribute, child, drawn_texts, is_on, local_name

# What a reader does not see: properties, instructions of fields, deleted text, and text that was moved away.
SKIPPED = frozenset(
    {"pPr", "rPr", "sectPr", "instrText", "delInstrText", "delText", "del", "moveFrom", "sdtPr", "rubyPr"}
)
# Around paragraphs, rows and cells: content controls, changes that were accepted by showing them, tags.
WRAPPERS = frozenset({"sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"})
SIGNS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}
NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
PRIVATE_USE = range(0xE000, 0xF900)


class Story:
    """Reads the body, and the parts that it refers to. What is left out is remembered for `warnings`."""

    def __init__(self, package: Package, part: str, numbering: Numbering, targets: Mapping[str, str]) -> None:
        self._package = package
        self._numbering = numbering
        self._relationships = package.relationships(part)
        self._notes = {
            name: {attribute(note, "id"): note for note in _children(package.xml(targets.get(name, "")))}
            for name in NOTES.values()
        }
        self._note_counts = dict.fromkeys(NOTES.values(), 0)
        self._left_out: dict[WarningCode, str] = {}
        # What comes after the paragraph that is being read: notes, text boxes, drawings.
        self._after: list[str] = []

    def headers(self, body: Element, settings: Element | None) -> Iterator[str]:
        yield from self._margins(body, settings, "headerReference")

    def footers(self, body: Element, settings: Element | None) -> Iterator[str]:
        yield from self._margins(body, settings, "footerReference")

    def warnings(self) -> Iterator[FileWarning]:
        for code, message in self._left_out.items():
            yield FileWarning(code, message)

    def paragraphs(self, parent: Element) -> Iterator[str]:
        """Paragraphs and tables in their order, each with a blank line after it."""
        for item in parent:
            name = local_name(item)
            if name == "p":
                yield from self._paragraph(item)
            elif name == "tbl":
                yield "".join(f"{row}\n" for row in self._rows(item)) + "\n"
            elif name == "altChunk":
                yield from self._alternative(item)
            elif name == "AlternateContent":
                yield from self.paragraphs(next(iter(item), item))
            elif name in WRAPPERS:
                yield from self.paragraphs(item)

    def _margins(self, body: Element, settings: Element | None, name: str) -> Iterator[str]:
        """Each header, or footer, once. Those of first and even pages only where pages show them."""
        read: set[str] = set()
        even = is_on(child(settings, "evenAndOddHeaders"))
        for section in body.iter():
            if local_name(section) != "sectPr":
                continue
            first = is_on(child(section, "titlePg"))
            for reference in section:
                shown = {"first": first, "even": even}.get(attribute(reference, "type"), True)
                found = self._relationships.get(attribute(reference, "id"))
                if local_name(reference) == name and shown and found is not None and found.target not in read:
                    read.add(found.target)
                    yield from self._part(found.target)

    def _part(self, part: str) -> Iterator[str]:
        """The paragraphs of another part, whose relationships are its own."""
        root, mine = self._package.xml(part), self._relationships
        if root is not None:
            self._relationships = self._package.relationships(part)
            yield from self.paragraphs(root)
            self._relationships = mine

    def _paragraph(self, paragraph: Element) -> Iterator[str]:
        outer, self._after = self._after, []
        label = self._numbering.label(child(paragraph, "pPr"))
        text = "".join(self._inline(paragraph))
        after, self._after = self._after, outer
        if text.strip():
            yield f"{label}{text}\n\n"
        for item in after:
            yield f"{item}\n\n"

    def _rows(self, table: Element) -> Iterator[str]:
        for item in table:
            if child(item, "trPr", "del") is not None:
                self._notice_changes("del")
            elif local_name(item) == "tr":
                cells = [self._cell(cell) for cell in _cells(item)]
                # A row of one cell is layout: its lines stay lines.
                yield cells[0] if len(cells) == 1 else "\t".join(" ".join(cell.split()) for cell in cells)
            elif local_name(item) in WRAPPERS:
                yield from self._rows(item)

    def _cell(self, cell: Element) -> str:
        return "".join(self.paragraphs(cell)).strip()

    def _inline(self, parent: Element) -> Iterator[str]:
        for item in parent:
            name = local_name(item)
            if name == "t":
                yield item.text or ""
            elif name in SIGNS:
                yield SIGNS[name]
            elif name in SKIPPED:
                self._notice_changes(name)
            elif name == "r" and self._is_hidden(item):
                self._leave_out(WarningCode.HIDDEN_TEXT, "text that the document hides is not searchable")
            else:
                yield from self._inline_special(name, item)

    def _inline_special(self, name: str, item: Element) -> Iterator[str]:
        if name in NOTES:
            yield self._note(NOTES[name], attribute(item, "id"))
        elif name == "txbxContent":
            self._after.append("".join(self.paragraphs(item)).strip())
        elif name == "AlternateContent":
            # Both branches show the same: the first is what newer readers see.
            yield from self._inline(next(iter(item), item))
        elif name == "sym":
            code = int(attribute(item, "char", "0"), 16)
            yield "" if code in PRIVATE_USE else chr(code)
        elif name == "ruby":
            # The reading comes first in the document, and above the word on the page.
            parts = {local_name(part): "".join(self._inline(part)) for part in item}
            yield f"{parts.get('rubyBase', '')}({parts.get('rt', '')})"
        elif name in {"den", "sup"}:
            yield {"den": "/", "sup": "^"}[name] + "".join(self._inline(item))
        elif name == "ddList":
            yield _chosen(item)
        else:
            self._notice(name, item)
            yield from self._inline(item)

    def _notice(self, name: str, item: Element) -> None:
        """Drawings have their text in parts of their own; pictures have none."""
        if name in {"relIds", "chart"}:
            found = self._relationships.get(attribute(item, "dm") or attribute(item, "id"))
            root = self._package.xml(found.target) if found is not None else None
            self._after.append("\n".join(drawn_texts(root)))
        elif name in {"blip", "imagedata"}:
            self._leave_out(WarningCode.PICTURES, "text in pictures is not read")
        elif name == "commentReference":
            self._leave_out(WarningCode.COMMENTS, "comments are not searchable")

    def _notice_changes(self, name: str) -> None:
        if name in {"del", "moveFrom"}:
            self._leave_out(WarningCode.DELETED_TEXT, "text that a tracked change deletes is not searchable")

    def _note(self, kind: str, identifier: str) -> str:
        """The mark; the note itself comes after the paragraph."""
        note = self._notes[kind].get(identifier)
        if note is None:
            return ""
        self._note_counts[kind] += 1
        count = self._note_counts[kind]
        mark = f"[{count if kind == 'footnotes' else to_roman(count)}]"
        self._after.append(f"{mark} {''.join(self.paragraphs(note)).strip()}")
        return mark

    def _alternative(self, item: Element) -> Iterator[str]:
        """A document of another format that Word shows in this place."""
        found = self._relationships.get(attribute(item, "id"))
        content = self._package.read(found.target) if found is not None else None
        if found is not None and content is not None and found.target.lower().endswith((".html", ".htm", ".xhtml")):
            yield from (item[1] for item in html.texts(content) if not isinstance(item, FileWarning))
        else:
            self._leave_out(WarningCode.EMBEDDED_FILES, "documents inside the document are not read")

    def _is_hidden(self, run: Element) -> bool:
        return is_on(child(run, "rPr", "vanish"))

    def _leave_out(self, code: WarningCode, message: str) -> None:
        self._left_out[code] = message


def _children(element: Element | None) -> Iterable[Element]:
    return element if element is not None else ()


def _cells(row: Element) -> Iterator[Element]:
    for item in row:
        if local_name(item) == "tc":
            yield item
        elif local_name(item) in WRAPPERS:
            yield from _cells(item)


def _chosen(item: Element) -> str:
    """The entry that is chosen in a form's list: it stands in no run."""
    entries = [attribute(entry, "val") for entry in item if local_name(entry) == "listEntry"]
    result = child(item, "result")
    chosen = int(attribute(result, "val", "0")) if result is not None else 0
    return entries[chosen] if chosen < len(entries) else ""
