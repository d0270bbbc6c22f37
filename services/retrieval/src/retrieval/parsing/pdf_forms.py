"""What is typed into a PDF's form or written on its pages: it is in no text of the page."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

SHOWN_FIELDS = {
    pdfium.FPDF_FORMFIELD_TEXTFIELD,
    pdfium.FPDF_FORMFIELD_COMBOBOX,
    pdfium.FPDF_FORMFIELD_LISTBOX,
}
CHECKED_FIELDS = {pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON}
HIDDEN_FLAGS = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
CHECKED = "[x]"
# Annotations at most this far above or below a line belong to it, in points.
LINE_TOLERANCE = 4.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and its place on the page, in points from the lower left corner."""

    text: str
    left: float
    bottom: float
    top: float


def entries(page: "pypdfium2.PdfPage", form: "pypdfium2.PdfFormEnv | None") -> Iterator[Entry]:
    """Values of fields, marks of checked boxes, and text that was written on the page, except what is hidden."""
    for index in range(pdfium.FPDFPage_GetAnnotCount(page.raw)):
        annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
        try:
            hidden = pdfium.FPDFAnnot_GetFlags(annotation) & HIDDEN_FLAGS
            text = "" if hidden else _shown_text(annotation, form)
            rectangle = pdfium.FS_RECTF()
            if text and pdfium.FPDFAnnot_GetRect(annotation, rectangle):
                low, high = sorted((rectangle.bottom, rectangle.top))
                yield Entry(text, min(rectangle.left, rectangle.right), low, high)
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def with_entries(content: "pypdfium2.PdfTextPage", found: list[Entry]) -> str:
    """The page's text, each value after what stands left of it on its line, or after the line above it."""
    boxes = [content.get_charbox(index) for index in range(content.count_chars())]
    places = sorted(((_place(boxes, entry), entry) for entry in found), key=lambda item: (item[0], item[1].left))
    pieces: list[str] = []
    start = 0
    for place, entry in places:
        pieces.append(content.get_text_range(start, place - start) if place > start else "")
        pieces.append(f" {entry.text} ")
        start = place
    rest = content.count_chars() - start
    pieces.append(content.get_text_range(start, rest) if rest > 0 else "")
    return "".join(pieces)


def _place(boxes: Sequence[tuple[float, float, float, float]], entry: Entry) -> int:
    """The index of the character before which the entry is read."""
    left: list[tuple[float, int]] = []
    above: list[tuple[float, int]] = []
    for index, (start, bottom, end, top) in enumerate(boxes):
        middle = (bottom + top) / 2
        if end <= start:
            continue
        if entry.bottom - LINE_TOLERANCE <= middle <= entry.top + LINE_TOLERANCE:
            if start <= entry.left:
                left.append((start, index))
        elif middle > entry.top:
            above.append((middle - entry.top, index))
    if left:
        return max(left)[1] + 1
    nearest = min(above, default=(0.0, -1))[0]
    return max((index for distance, index in above if distance <= nearest + LINE_TOLERANCE), default=-1) + 1


def _shown_text(annotation: "pdfium.FPDF_ANNOTATION", form: "pypdfium2.PdfFormEnv | None") -> str:
    kind = pdfium.FPDFAnnot_GetSubtype(annotation)
    if kind == pdfium.FPDF_ANNOT_FREETEXT:
        return _string(lambda buffer, size: pdfium.FPDFAnnot_GetStringValue(annotation, b"Contents", buffer, size))
    if kind != pdfium.FPDF_ANNOT_WIDGET or form is None:
        return ""
    field = pdfium.FPDFAnnot_GetFormFieldType(form.raw, annotation)
    if field in CHECKED_FIELDS:
        return CHECKED if pdfium.FPDFAnnot_IsChecked(form.raw, annotation) else ""
    password = pdfium.FPDFAnnot_GetFormFieldFlags(form.raw, annotation) & pdfium.FPDF_FORMFLAG_TEXT_PASSWORD
    if field not in SHOWN_FIELDS or (field == pdfium.FPDF_FORMFIELD_TEXTFIELD and password):
        return ""
    return _string(lambda buffer, size: pdfium.FPDFAnnot_GetFormFieldValue(form.raw, annotation, buffer, size))


def _string(read: Callable[[Any, int], int]) -> str:
    """Calls that fill a buffer tell its size in bytes, with two zero bytes at the end."""
    size = read(None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(buffer, size)
    return bytes(buffer)[: max(size - 2, 0)].decode("utf-16-le", "replace").strip()
