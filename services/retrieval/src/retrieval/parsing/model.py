"""Parsed documents: blocks of text, or the reason why there are none."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self


class IngestionErrorCode(StrEnum):
    """Why a file cannot be indexed. Codes are stable and part of the public API."""

    meaning: str
    """For the reference page."""

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """A code and its meaning."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    UNSUPPORTED_FILE = "unsupported_file", "The extension of the name is none of: txt, md, html, pdf, docx."
    FILE_TYPE_MISMATCH = "file_type_mismatch", "The content does not match the extension."
    ENCRYPTED_FILE = "encrypted_file", "The document needs a password."
    UNREADABLE_FILE = "unreadable_file", "The document is damaged, or its parser crashed."
    FILE_TOO_LARGE = "file_too_large", "The file is larger than the limit for indexing; it stays stored."
    FILE_EXPANDS_TOO_MUCH = "file_expands_too_much", "Parsing the file takes too much memory, time or text."
    EMPTY_FILE = "empty_file", "There is no text in the document."
    INDEXING_CRASHED = "indexing_crashed", "The service crashed several times in a row while indexing the file."


class UnindexableFile(Exception):
    """The file can never be indexed as it is; `message` is for people."""

    def __init__(self, code: IngestionErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive text of one page, a few thousand characters at most; page 0 where the format has none."""

    page: int
    text: str


class Parser(Protocol):
    """Parses documents of every supported format."""

    def blocks(self, filename: str, data: AsyncGenerator[bytes, None]) -> AsyncGenerator[Block, None]:
        """The text in reading order. The same document gives the same blocks, always.

        Raises UnindexableFile, also after some blocks, and Unavailable when no parser can start. Errors of `data` are
        raised unchanged.
        """
