"""What ingestion needs from a parser."""

from collections.abc import AsyncGenerator
from typing import Protocol

from retrieval.parsing.model import Block


class Parser(Protocol):
    """Parses documents of every supported format."""

    def blocks(self, filename: str, data: AsyncGenerator[bytes, None]) -> AsyncGenerator[Block, None]:
        """The text in reading order. The same document gives the same blocks, always.

        Raises UnindexableFile, also after some blocks, and Unavailable when no parser can start. Errors of `data` are
        raised unchanged.
        """
