"""Splits text into chunks: windows of tokens that overlap and end at ends of sentences."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chassis.errors import InvalidRequest

from retrieval.chunking.token_counter import TokenCounter
from retrieval.parsing.model import Block

# MiniLM reads 256 tokens. Windows of 192 with a fifth of overlap had better recall than 128, 256 and 512.
WINDOW_TOKENS = 192
OVERLAP_TOKENS = 38

# Boundaries, best first. A match ends a piece, so the pieces joined are the text again.
# The look-behind keeps the time for a long row of dots linear.
_SENTENCES = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+\s+|[。！？]+\s*|\n[^\S\n]*\n\s*")
_LINES = re.compile(r"\n+")
_WORDS = re.compile(r"\s+")
# WordPiece counts a word of more than 100 characters as one unknown token.
_FRAGMENTS = re.compile(r"(?s).{100}")
# Invisible characters and unknown words have few tokens or none; this bounds the characters of a chunk as well.
_MAX_CHARACTERS_PER_TOKEN = 32
_FINER = (_LINES, _WORDS, _FRAGMENTS)


# OpenAI's bounds.
MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS = 100, 4_096


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a file is split, in tokens. Raises InvalidRequest beyond the bounds of OpenAI's reference."""

    max_tokens: int = WINDOW_TOKENS
    overlap_tokens: int = OVERLAP_TOKENS

    def __post_init__(self) -> None:
        if not MIN_CHUNK_TOKENS <= self.max_tokens <= MAX_CHUNK_TOKENS:
            message = f"a chunk has {MIN_CHUNK_TOKENS} to {MAX_CHUNK_TOKENS} tokens"
            raise InvalidRequest(message, param="chunking_strategy")
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            raise InvalidRequest("chunks overlap by at most half of their tokens", param="chunking_strategy")


OWN_CHUNKING = Chunking()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a file on `page`, or on page 0 where the format has none."""

    ordinal: int
    page: int
    text: str


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    tokens: int


class Splitter:
    """Splits one document, block by block, with one window in memory. The same blocks give the same chunks.

    A chunk does not cross a page, so a citation of a page is exact.
    """

    def __init__(self, counter: TokenCounter, window: int = WINDOW_TOKENS, overlap: int = OVERLAP_TOKENS) -> None:
        self._count = counter.count
        self._window = window
        self._overlap = overlap
        self._pieces: list[_Piece] = []
        self._new_pieces = 0
        self._page = 0
        self._ordinal = 0

    def feed(self, block: Block) -> Iterator[Chunk]:
        """Add the next block; yield the chunks that are full."""
        if block.page != self._page:
            yield from self.finish()
            self._page = block.page
        text = block.text if block.text[-1:].isspace() else block.text + "\n"
        for piece in self._split(text, _SENTENCES, _FINER):
            if self._new_pieces and self._size() + piece.tokens > self._window:
                yield self._next_chunk()
            while self._pieces and self._size() + piece.tokens > self._window:
                del self._pieces[0]
            self._pieces.append(piece)
            self._new_pieces += 1

    def finish(self) -> Iterator[Chunk]:
        """Yield the last chunk, if there is one."""
        if self._new_pieces:
            yield self._next_chunk()
        self._pieces = []

    def _split(self, text: str, boundary: re.Pattern[str], finer: Sequence[re.Pattern[str]]) -> Iterator[_Piece]:
        texts = [part for part in _parts(text, boundary) if not part.isspace()]
        for part, tokens in zip(texts, self._count(texts), strict=True):
            if max(tokens, len(part) // _MAX_CHARACTERS_PER_TOKEN) > self._window and finer:
                yield from self._split(part, finer[0], finer[1:])
            else:
                yield _Piece(part, max(tokens, 1 + len(part) // _MAX_CHARACTERS_PER_TOKEN))

    def _size(self) -> int:
        return sum(piece.tokens for piece in self._pieces)

    def _next_chunk(self) -> Chunk:
        chunk = Chunk(self._ordinal, self._page, "".join(piece.text for piece in self._pieces).strip())
        self._ordinal += 1
        self._pieces = self._overlapping_pieces()
        self._new_pieces = 0
        return chunk

    def _overlapping_pieces(self) -> list[_Piece]:
        """The last sentences within the overlap; at least one, if it leaves half of the window free.

        None where no overlap is wanted.
        """
        if not self._overlap:
            return []
        overlapping: list[_Piece] = []
        tokens = 0
        for piece in reversed(self._pieces):
            tokens += piece.tokens
            if tokens > (self._overlap if overlapping else self._window // 2):
                break
            overlapping.insert(0, piece)
        return overlapping


def _parts(text: str, boundary: re.Pattern[str]) -> Iterator[str]:
    start = 0
    for match in boundary.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]
