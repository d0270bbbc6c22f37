"""Which reader a document gets, and whether it is what its name says."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import BinaryIO

from retrieval.adapters.parsers.cleaning import blocks
from retrieval.adapters.parsers.limits import Limits
from retrieval.domain.documents import Block, FileRefused, Refusal

HEAD_BYTES = 64 * 1024
PDF, ZIP, OLE = b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Office writes an encrypted document as an OLE container with a stream of this name.
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")

Reader = Callable[[BinaryIO, Limits], Iterator[tuple[int, str]]]


def read(document: BinaryIO, filename: str, limits: Limits) -> Iterator[Block]:
    """The document's text. `document` can seek. Raises FileRefused, and whatever a library makes of damage."""
    extension = PurePath(filename).suffix.lower()
    if extension not in READERS:
        known = ", ".join(sorted(READERS))
        raise FileRefused(Refusal.UNSUPPORTED_FILE, f"{extension or 'no extension'} is not supported; {known} are")
    check, reader = READERS[extension]
    head = document.read(HEAD_BYTES)
    if not head.strip():
        raise FileRefused(Refusal.EMPTY_FILE, "the file is empty")
    document.seek(0)
    check(head, document)
    document.seek(0)
    for page, text in reader(document, limits):
        yield from blocks(page, text)


def _is_text(head: bytes, _: BinaryIO) -> None:
    binary = b"\0" in head and not head.startswith(BYTE_ORDER_MARKS)
    if binary or head.startswith((PDF, ZIP, OLE)):
        raise _mismatch("text")


def _is_pdf(head: bytes, _: BinaryIO) -> None:
    # Readers have always forgiven a little rubbish before the first line.
    if PDF not in head[:1024]:
        raise _mismatch("a PDF document")


def _is_docx(head: bytes, document: BinaryIO) -> None:
    if head.startswith(OLE):
        if ENCRYPTED_PACKAGE in document.read():
            raise FileRefused(Refusal.ENCRYPTED_FILE, "the file is encrypted")
        raise _mismatch("a Word document of 2007 or later")
    if not head.startswith(ZIP):
        raise _mismatch("a Word document")
    with zipfile.ZipFile(document) as archive:
        if not any(name.startswith("word/") for name in archive.namelist()):
            raise _mismatch("a Word document")


def _mismatch(expected: str) -> FileRefused:
    return FileRefused(Refusal.FILE_TYPE_MISMATCH, f"the file is not {expected}, as its name says")


# Each library is loaded by the child that needs it, and by no other.
def _text(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str]]:
    from retrieval.adapters.parsers import plain  # noqa: PLC0415

    return plain.read(document)


def _markdown(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str]]:
    from retrieval.adapters.parsers import markdown  # noqa: PLC0415

    return markdown.read(document)


def _html(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str]]:
    from retrieval.adapters.parsers import html  # noqa: PLC0415

    return html.read(document)


def _pdf(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str]]:
    from retrieval.adapters.parsers import pdf  # noqa: PLC0415

    return pdf.read(document)


def _docx(document: BinaryIO, limits: Limits) -> Iterator[tuple[int, str]]:
    from retrieval.adapters.parsers import docx  # noqa: PLC0415

    return docx.read(document, limits.expanded_bytes)


READERS: dict[str, tuple[Callable[[bytes, BinaryIO], None], Reader]] = {
    ".txt": (_is_text, _text),
    ".text": (_is_text, _text),
    ".md": (_is_text, _markdown),
    ".markdown": (_is_text, _markdown),
    ".html": (_is_text, _html),
    ".htm": (_is_text, _html),
    ".pdf": (_is_pdf, _pdf),
    ".docx": (_is_docx, _docx),
}
