"""Chooses the parser by the extension and checks that the content matches it."""

import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import PurePath
from typing import BinaryIO

from retrieval.parsing.blocks import to_blocks
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block, IngestionErrorCode, UnindexableFile

HEAD_BYTES = 64 * 1024
PDF, ZIP, OLE = b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Office writes an encrypted document as an OLE container with a stream of this name.
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read(document: BinaryIO, filename: str, limits: Limits) -> Iterator[Block]:
    """The document's text. `document` must be seekable.

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
    for page, text in import_module(f"retrieval.parsing.{module}").read(document, limits):
        yield from to_blocks(page, text)


def _is_text(head: bytes, _: BinaryIO) -> None:
    binary = b"\0" in head and not head.startswith(BYTE_ORDER_MARKS)
    if binary or head.startswith((PDF, ZIP, OLE)):
        raise _mismatch("text")


def _is_pdf(head: bytes, _: BinaryIO) -> None:
    # PDF readers accept other bytes before the header.
    if PDF not in head[:1024]:
        raise _mismatch("a PDF document")


def _is_docx(head: bytes, document: BinaryIO) -> None:
    if head.startswith(OLE):
        if ENCRYPTED_PACKAGE in document.read():
            raise UnindexableFile(IngestionErrorCode.ENCRYPTED_FILE, "the file is encrypted")
        raise _mismatch("a Word document of 2007 or later")
    if not head.startswith(ZIP):
        raise _mismatch("a Word document")
    with zipfile.ZipFile(document) as archive:
        if not any(name.startswith("word/") for name in archive.namelist()):
            raise _mismatch("a Word document")


def _mismatch(expected: str) -> UnindexableFile:
    return UnindexableFile(
        IngestionErrorCode.FILE_TYPE_MISMATCH, f"the extension is that of {expected}, the content is not"
    )


# The extension, the check of the content, and the module that parses it. Modules are imported by name, so that a child
# process loads only the library that it needs.
PARSERS: dict[str, tuple[Callable[[bytes, BinaryIO], None], str]] = {
    ".txt": (_is_text, "plain"),
    ".text": (_is_text, "plain"),
    ".md": (_is_text, "markdown"),
    ".markdown": (_is_text, "markdown"),
    ".html": (_is_text, "html"),
    ".htm": (_is_text, "html"),
    ".pdf": (_is_pdf, "pdf"),
    ".docx": (_is_docx, "docx"),
}
