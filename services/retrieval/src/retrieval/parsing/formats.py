"""Chooses the parser by the extension and checks that the content matches it."""

import re
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import PurePath
from typing import BinaryIO

from retrieval.parsing.blocks import to_blocks
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block, FileWarning, IngestionErrorCode, UnindexableFile
from retrieval.parsing.text_encoding import BYTE_ORDER_MARKS, unmarked_utf_16

HEAD_BYTES = 64 * 1024
PDF, ZIP, OLE = b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# A field's name and a colon, maybe after the line that mailboxes put before each mail.
MAIL_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?(?:>?From [^\n]*\n)?[!-9;-~]+[ \t]*:")
# Office writes an encrypted document as an OLE container with a stream of this name.
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")


def read(document: BinaryIO, filename: str, limits: Limits) -> Iterator[Block | FileWarning]:
    """The document's text, and each kind of warning once. `document` must be seekable.

    Raises UnindexableFile. A damaged document may raise any exception of its library.
    """
    extension = PurePath(filename).suffix.lower()
    if extension not in PARSERS:
        known = ", ".join(sorted(PARSERS))
        raise UnindexableFile(
            IngestionErrorCode.UNSUPPORTED_FILE, f"{extension or 'no extension'} is not supported; {known} are"
        )
    check, module = PARSERS[extension]
    head = document.read(HEAD_BYTES)
    if not head.strip():
        raise UnindexableFile(IngestionErrorCode.EMPTY_FILE, "the file is empty")
    document.seek(0)
    check(head, document)
    document.seek(0)
    warned: set[str] = set()
    for item in import_module(f"retrieval.parsing.{module}").read(document, limits):
        if not isinstance(item, FileWarning):
            yield from to_blocks(*item)
        elif item.code not in warned:
            warned.add(item.code)
            yield item


def _is_text(head: bytes, _document: BinaryIO) -> None:
    marked = any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS)
    binary = b"\0" in head and not marked and not unmarked_utf_16(head)
    if binary or head.startswith((PDF, ZIP, OLE)):
        raise _mismatch("text")


def _is_pdf(head: bytes, _: BinaryIO) -> None:
    # PDF readers accept other bytes before the header.
    if PDF not in head[:1024]:
        raise _mismatch("a PDF document")


def _is_mail(head: bytes, document: BinaryIO) -> None:
    _is_text(head, document)
    if not MAIL_HEADER.match(head):
        raise _mismatch("a mail")


def _is_zip_with(folder: str, expected: str) -> Callable[[bytes, BinaryIO], None]:
    """A check for an archive that has a part in this folder."""

    def check(head: bytes, document: BinaryIO) -> None:
        if head.startswith(OLE):
            if ENCRYPTED_PACKAGE in document.read():
                raise UnindexableFile(IngestionErrorCode.ENCRYPTED_FILE, "the file is encrypted")
            raise _mismatch(f"{expected} of 2007 or later")
        if not head.startswith(ZIP):
            raise _mismatch(expected)
        with zipfile.ZipFile(document) as archive:
            if not any(name.startswith(folder) for name in archive.namelist()):
                raise _mismatch(expected)

    return check


def _mismatch(expected: str) -> UnindexableFile:
    return UnindexableFile(
        IngestionErrorCode.FILE_TYPE_MISMATCH, f"the extension is that of {expected}, the content is not"
    )


# The extension, the check of the content, and the module that parses it. Modules are imported by name, so that a
# process may load only the library that it needs.
PARSERS: dict[str, tuple[Callable[[bytes, BinaryIO], None], str]] = {
    ".txt": (_is_text, "plain"),
    ".text": (_is_text, "plain"),
    ".md": (_is_text, "markdown"),
    ".markdown": (_is_text, "markdown"),
    ".html": (_is_text, "html"),
    ".htm": (_is_text, "html"),
    ".csv": (_is_text, "separated_values"),
    ".tsv": (_is_text, "separated_values"),
    ".json": (_is_text, "json_values"),
    ".jsonl": (_is_text, "json_values"),
    ".eml": (_is_mail, "mail"),
    ".pdf": (_is_pdf, "pdf"),
    ".docx": (_is_zip_with("word/", "a Word document"), "docx"),
    ".pptx": (_is_zip_with("ppt/", "a presentation"), "pptx"),
    ".xlsx": (_is_zip_with("xl/", "a workbook"), "xlsx"),
    ".epub": (_is_zip_with("META-INF/container.xml", "a book"), "epub"),
}


def preload() -> None:
    """Import all that parsers need."""
    for module in {"text_detection", *(module for _, module in PARSERS.values())}:
        import_module(f"retrieval.parsing.{module}")
