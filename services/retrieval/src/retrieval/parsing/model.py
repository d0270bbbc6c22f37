"""What a document is once it is read: blocks of text, or a refusal."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self


class Refusal(StrEnum):
    """Why a file cannot be indexed: stable, documented, shown to the tenant."""

    meaning: str
    """For the reference page."""

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """A code and what it means."""
        refusal = str.__new__(cls, value)
        refusal._value_ = value
        refusal.meaning = meaning
        return refusal

    UNSUPPORTED_FILE = "unsupported_file", "The name has no extension that is read: txt, md, html, pdf or docx."
    FILE_TYPE_MISMATCH = "file_type_mismatch", "The content is not what the extension says."
    ENCRYPTED_FILE = "encrypted_file", "The document asks for a password."
    UNREADABLE_FILE = "unreadable_file", "The document is damaged, or reading it took too long or too much memory."
    FILE_TOO_LARGE = "file_too_large", "The file is larger than what is indexed; it stays stored."
    FILE_EXPANDS_TOO_MUCH = "file_expands_too_much", "The file unfolds to far more than it weighs, as a zip bomb does."
    EMPTY_FILE = "empty_file", "There is no text in the document."
    INDEXING_CRASHED = "indexing_crashed", "Indexing crashed time and again at the same place."


class FileRefused(Exception):
    """The file will never be indexable as it is; `message` is for people."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive text of one page, a few thousand characters at most; page 0 where the format has none."""

    page: int
    text: str


class Parser(Protocol):
    """Reads documents of every supported format."""

    def blocks(self, filename: str, data: AsyncGenerator[bytes, None]) -> AsyncGenerator[Block, None]:
        """The text in reading order, always cut into the same blocks.

        Raises FileRefused, also midway; an error of `data` as it is; Unavailable when reading cannot start.
        """
