"""Workbooks of Excel, of 2007 and later: the sheets that are shown, each with its name, as pages."""

import datetime as dt
import mimetypes
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from retrieval.parsing.blocks import coalesce
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, WarningCode
from retrieval.parsing.ooxml import Package
from retrieval.parsing.table_rows import rows_to_texts

# A formula whose cell ends without a value.
_NO_VALUE = re.compile(rb"(?:</f>|<f[^>]*/>)\s*(?:<v\s*/>|<v></v>)?\s*</c>")
# Excel calculates with 15 digits, so more are an error of rounding.
DIGITS = 15


def read(document: BinaryIO, limits: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """Each sheet is a page. Of formulas the values that were saved are read.

    Raises UnindexableFile when the archive expands to more than its limit.
    """
    load_workbook = _import_openpyxl()
    package = Package(document, limits)
    document.seek(0)
    workbook = load_workbook(document, read_only=True, data_only=True)
    for number, sheet in enumerate(workbook.worksheets, start=1):
        if sheet.sheet_state != "visible":
            yield FileWarning(WarningCode.HIDDEN_TEXT, "sheets that the workbook hides are not searchable")
            continue
        # What the file says of its size is often wrong.
        sheet.reset_dimensions()
        yield number, f"{sheet.title}\n\n"
        yield from coalesce(number, rows_to_texts([_shown(cell) for cell in row] for row in sheet.iter_rows()))
    if package.has_match("xl/worksheets/", _NO_VALUE):
        yield FileWarning(WarningCode.FORMULAS, "open and save the workbook in Excel: some formulas have no values yet")
    if package.has("xl/comments") or package.has("xl/threadedComments"):
        yield FileWarning(WarningCode.COMMENTS, "comments are not searchable")
    if package.has("xl/media/"):
        yield FileWarning(WarningCode.PICTURES, "text in pictures is not read")


def _import_openpyxl() -> Callable[..., Any]:
    """Without numpy, which it imports if it can and which starts threads, and without the system's list of types."""
    sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]
    mimetypes.knownfiles.clear()
    from openpyxl import load_workbook  # noqa: PLC0415 - after the lines above

    found: Callable[..., Any] = load_workbook
    return found


def _shown(cell: Any) -> str:
    """The value about as Excel shows it: dates as dates, shares in percent."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        midnight = value.time() == dt.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float | int):
        return _number(value, str(cell.number_format or ""))
    return " ".join(str(value).split())


def _number(value: float, form: str) -> str:
    if form.endswith("%"):
        return f"{value * 100:.{DIGITS}g}%"
    text = f"{value:.{DIGITS}g}"
    # Zeros in front, as of a postal code, are in the format only.
    return text.zfill(len(form)) if form and set(form) == {"0"} else text
