"""PDF as text, page by page. Scanned pages have no text."""

from collections.abc import Iterator
from typing import BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium

from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, IngestionErrorCode, UnindexableFile, WarningCode
from retrieval.parsing.pdf_forms import entries, with_entries

# PDFium writes this for a hyphen at the end of a line inside a word.
SOFT_HYPHEN = "\x02"
# Of a page with more characters than this share in fonts without a character map, nothing is read: the rest is no text.
MAX_UNREADABLE_SHARE = 0.3
MAX_PAGES_NAMED = 10


class _Findings:
    """Pages by what is wrong with them, and whether any page was read."""

    def __init__(self) -> None:
        self.unreadable: list[int] = []
        self.scanned: list[int] = []
        self.read = False


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """Each page with its number from 1. Only one page is in memory."""
    try:
        pdf = pypdfium2.PdfDocument(document)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise UnindexableFile(IngestionErrorCode.ENCRYPTED_FILE, "the file needs a password") from None
        raise UnindexableFile(
            IngestionErrorCode.UNREADABLE_FILE, "the file is damaged: it cannot be opened as PDF"
        ) from None
    kind = pdf.get_formtype()
    if kind != pdfium.FORMTYPE_NONE:
        pdf.init_forms()
    findings = _Findings()
    for index in range(len(pdf)):
        yield index + 1, _text(pdf, index, findings)
    if findings.unreadable and not findings.read:
        raise UnindexableFile(
            IngestionErrorCode.UNREADABLE_FONTS, "the fonts of the file have no character map: print it to a new PDF"
        )
    if kind == pdfium.FORMTYPE_XFA_FULL:
        yield FileWarning(
            WarningCode.DYNAMIC_FORM, "the form is drawn by its viewer; only the file's own pages are read"
        )
    yield from _warnings(findings)


def _warnings(findings: _Findings) -> Iterator[FileWarning]:
    if findings.unreadable:
        message = f"text in fonts without a character map is left out on {_pages(findings.unreadable)}"
        yield FileWarning(WarningCode.UNREADABLE_FONTS, message)
    if findings.scanned:
        message = f"pictures without text are not read: {_pages(findings.scanned)}"
        yield FileWarning(WarningCode.SCANNED_PAGES, message)


def _pages(numbers: list[int]) -> str:
    named = ", ".join(map(str, numbers[:MAX_PAGES_NAMED]))
    return f"page {named}" if len(numbers) == 1 else f"pages {named}{', …' if len(numbers) > MAX_PAGES_NAMED else ''}"


def _text(pdf: "pypdfium2.PdfDocument", index: int, findings: _Findings) -> str:
    try:
        page = pdf[index]
    except pypdfium2.PdfiumError:
        raise UnindexableFile(IngestionErrorCode.UNREADABLE_FILE, f"page {index + 1} is damaged") from None
    content = page.get_textpage()
    try:
        text = _readable_text(content, index + 1, findings)
        found = list(entries(page, pdf.formenv))
        if found:
            text = with_entries(content, found) if text else "\n".join(entry.text for entry in found)
        findings.read = findings.read or bool(text.strip())
        if not text.strip() and index + 1 not in findings.unreadable and _has_picture(page):
            findings.scanned.append(index + 1)
    finally:
        content.close()
        page.close()
    return text.replace(SOFT_HYPHEN, "")


def _readable_text(content: "pypdfium2.PdfTextPage", number: int, findings: _Findings) -> str:
    """The text without characters that PDFium cannot map to Unicode: it gives their numbers in the font instead."""
    count = content.count_chars()
    unmapped = [index for index in range(count) if pdfium.FPDFText_HasUnicodeMapError(content.raw, index) == 1]
    if not unmapped:
        text: str = content.get_text_range()
        return text
    findings.unreadable.append(number)
    if len(unmapped) > count * MAX_UNREADABLE_SHARE:
        return ""
    pieces: list[str] = []
    start = 0
    for index in [*unmapped, count]:
        pieces.append(content.get_text_range(start, index - start) if index > start else "")
        start = index + 1
    return "".join(pieces)


def _has_picture(page: "pypdfium2.PdfPage") -> bool:
    return next(page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=4), None) is not None
