"""PDF as text, page by page. Scanned pages have no text."""

from collections.abc import Iterator
from typing import BinaryIO

import pypdfium2
import pypdfium2.raw

from retrieval.parsing.limits import Limits
from retrieval.parsing.model import IngestionErrorCode, UnindexableFile

# PDFium writes this for a hyphen at the end of a line inside a word.
SOFT_HYPHEN = "\x02"


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str]]:
    """Each page with its number from 1. Only one page is in memory."""
    try:
        pdf = pypdfium2.PdfDocument(document)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise UnindexableFile(IngestionErrorCode.ENCRYPTED_FILE, "the file needs a password") from None
        raise UnindexableFile(
            IngestionErrorCode.UNREADABLE_FILE, "the file is damaged: it cannot be opened as PDF"
        ) from None
    for index in range(len(pdf)):
        yield index + 1, _text(pdf, index)


def _text(pdf: "pypdfium2.PdfDocument", index: int) -> str:
    try:
        page = pdf[index]
    except pypdfium2.PdfiumError:
        raise UnindexableFile(IngestionErrorCode.UNREADABLE_FILE, f"page {index + 1} is damaged") from None
    content = page.get_textpage()
    try:
        text: str = content.get_text_range()
    finally:
        content.close()
        page.close()
    return text.replace(SOFT_HYPHEN, "")
