"""What a document is once it is read: blocks of text, or a refusal."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Refusal(StrEnum):
    """Why a file cannot be indexed: stable, documented, shown to the tenant."""

    UNSUPPORTED_FILE = "unsupported_file"
    FILE_TYPE_MISMATCH = "file_type_mismatch"
    ENCRYPTED_FILE = "encrypted_file"
    UNREADABLE_FILE = "unreadable_file"
    FILE_TOO_LARGE = "file_too_large"
    FILE_EXPANDS_TOO_MUCH = "file_expands_too_much"
    EMPTY_FILE = "empty_file"
    INDEXING_CRASHED = "indexing_crashed"


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
