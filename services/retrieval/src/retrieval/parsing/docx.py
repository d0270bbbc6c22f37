"""Word documents, of 2007 and later, as text."""

import zipfile
from collections.abc import Iterator
from typing import BinaryIO
from xml.parsers.expat import ExpatError

import mammoth

from retrieval.parsing.limits import Limits
from retrieval.parsing.model import IngestionErrorCode, UnindexableFile


def read(document: BinaryIO, limits: Limits) -> Iterator[tuple[int, str]]:
    """The paragraphs. The format has no pages, Word makes them.

    Raises UnindexableFile when the archive expands to more than its limit.
    """
    with zipfile.ZipFile(document) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > limits.expanded_bytes:
            raise UnindexableFile(
                IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, f"the file expands to more than {limits.expanded_bytes} bytes"
            )
    document.seek(0)
    try:
        text: str = mammoth.extract_raw_text(document).value
    except ExpatError as error:
        if "amplification" in str(error):
            raise UnindexableFile(
                IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file's entities expand too much"
            ) from None
        raise
    yield 0, text
