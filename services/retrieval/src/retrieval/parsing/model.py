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

    UNSUPPORTED_FILE = (
        "unsupported_file",
        "The extension is none of: txt, md, html, csv, tsv, json, jsonl, eml, pdf, docx, pptx, xlsx, epub.",
    )
    FILE_TYPE_MISMATCH = "file_type_mismatch", "The content does not match the extension."
    ENCRYPTED_FILE = "encrypted_file", "The document needs a password."
    UNREADABLE_FILE = "unreadable_file", "The document is damaged, or its parser crashed."
    UNKNOWN_ENCODING = "unknown_encoding", "The encoding of the text is neither declared nor clear; save it as UTF-8."
    UNREADABLE_FONTS = "unreadable_fonts", "The fonts of a PDF have no character map, so its text cannot be read."
    FILE_TOO_LARGE = "file_too_large", "The file is larger than the limit for indexing; it stays stored."
    FILE_EXPANDS_TOO_MUCH = "file_expands_too_much", "Parsing the file takes too much memory, time or text."
    EMPTY_FILE = "empty_file", "There is no text in the document."
    INDEXING_CRASHED = "indexing_crashed", "The service crashed several times in a row while indexing the file."


class WarningCode(StrEnum):
    """What of a file is not searchable although it is indexed. Codes are stable and part of the public API."""

    meaning: str
    """For the reference page."""

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """A code and its meaning."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    HIDDEN_TEXT = "hidden_text", "Text, sheets or slides that the document hides are left out."
    DELETED_TEXT = "deleted_text", "Text that a tracked change deletes is left out."
    COMMENTS = "comments", "Comments are left out."
    PICTURES = "pictures", "The document has pictures; text in them is not read."
    EMBEDDED_FILES = "embedded_files", "Files inside the document, such as attachments of a mail, are left out."
    NAVIGATION = "navigation", "Navigation menus of the page are left out."
    SCANNED_PAGES = "scanned_pages", "Some pages are pictures and have no text; they are not read."
    UNREADABLE_FONTS = "unreadable_fonts", "Text in fonts without a character map is left out."
    FORMULAS = (
        "formulas",
        "The workbook has formulas without values, because it was not saved by a program that calculates.",
    )
    DYNAMIC_FORM = "dynamic_form", "The form is drawn by its viewer: only what the file itself shows is read."
    DETECTED_ENCODING = "detected_encoding", "The file does not say its encoding; it was detected from the text."
    UNREADABLE_BYTES = "unreadable_bytes", "A few bytes are not valid in the file's encoding and are left out."


@dataclass(frozen=True, slots=True)
class FileWarning:
    """What was left out of a file that is indexed; `message` is for people.

    `code` is a WarningCode, or one of a newer version of the service.
    """

    code: str
    message: str


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

    def blocks(
        self, filename: str, data: AsyncGenerator[bytes, None], owner: str = ""
    ) -> AsyncGenerator[Block | FileWarning, None]:
        """The text in reading order, and warnings of what is left out. The same document gives the same blocks, always.

        Short documents of one owner may be parsed by one process; without an owner each has its own.
        Raises UnindexableFile, also after some blocks, and Unavailable when no parser can start. Errors of `data` are
        raised unchanged.
        """
