"""Text to chunks: windows of tokens that overlap and end where sentences end."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from retrieval.domain.documents import Block

# MiniLM reads 256 tokens; windows of 192 with a fifth of overlap found more than 128, 256 and 512.
WINDOW_TOKENS = 192
OVERLAP_TOKENS = 38

# Where text may be cut, best first. Each match ends a piece, so pieces put together are the text again.
# The look-behind keeps a long row of dots linear.
_SENTENCES = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+\s+|[。！？]+\s*|\n[^\S\n]*\n\s*")
_LINES = re.compile(r"\n+")
_WORDS = re.compile(r"\s+")
# WordPiece takes a word of more than 100 characters for one unknown token, however long it is.
_FRAGMENTS = re.compile(r"(?s).{100}")
# Invisible characters and words unknown to the model count for little or nothing; a chunk stays bounded all the same.
_MOST_CHARACTERS_PER_TOKEN = 32
_FINER = (_LINES, _WORDS, _FRAGMENTS)


class Tokens(Protocol):
    """Counts tokens as the embedding model does, or more."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text. Texts put together never have more than the sum."""


class EstimatedTokens:
    """A count from above without a tokenizer: a token per three letters, and one per sign or ideograph."""

    _parts = re.compile(r"[A-Za-z0-9]+|\S")

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, rather too many."""
        return [sum(-(-len(part) // 3) for part in self._parts.findall(text)) for text in texts]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a file; `page` is where it stands, 0 where the format has none."""

    ordinal: int
    page: int
    text: str


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    tokens: int


class Chunker:
    """Cuts one document, block by block, holding one window in memory. The same blocks give the same chunks.

    A window ends with its page, so that whoever is shown a page finds the passage there.
    """

    def __init__(self, tokens: Tokens, window: int = WINDOW_TOKENS, overlap: int = OVERLAP_TOKENS) -> None:
        self._count = tokens.count
        self._window = window
        self._overlap = overlap
        self._pieces: list[_Piece] = []
        self._fresh = 0
        self._page = 0
        self._ordinal = 0

    def feed(self, block: Block) -> Iterator[Chunk]:
        """Take the next block; yield the chunks that are full."""
        if block.page != self._page:
            yield from self.finish()
            self._page = block.page
        text = block.text if block.text[-1:].isspace() else block.text + "\n"
        for piece in self._split(text, _SENTENCES, _FINER):
            if self._fresh and self._size() + piece.tokens > self._window:
                yield self._cut()
            while self._pieces and self._size() + piece.tokens > self._window:
                del self._pieces[0]
            self._pieces.append(piece)
            self._fresh += 1

    def finish(self) -> Iterator[Chunk]:
        """Yield what is left."""
        if self._fresh:
            yield self._cut()
        self._pieces = []

    def _split(self, text: str, boundary: re.Pattern[str], finer: Sequence[re.Pattern[str]]) -> Iterator[_Piece]:
        texts = [part for part in _parts(text, boundary) if not part.isspace()]
        for part, tokens in zip(texts, self._count(texts), strict=True):
            if max(tokens, len(part) // _MOST_CHARACTERS_PER_TOKEN) > self._window and finer:
                yield from self._split(part, finer[0], finer[1:])
            else:
                yield _Piece(part, max(tokens, 1 + len(part) // _MOST_CHARACTERS_PER_TOKEN))

    def _size(self) -> int:
        return sum(piece.tokens for piece in self._pieces)

    def _cut(self) -> Chunk:
        chunk = Chunk(self._ordinal, self._page, "".join(piece.text for piece in self._pieces).strip())
        self._ordinal += 1
        self._pieces = self._tail()
        self._fresh = 0
        return chunk

    def _tail(self) -> list[_Piece]:
        """The last whole sentences within the overlap; one at least, if it leaves half of the window."""
        tail: list[_Piece] = []
        tokens = 0
        for piece in reversed(self._pieces):
            tokens += piece.tokens
            if tokens > (self._overlap if tail else self._window // 2):
                break
            tail.insert(0, piece)
        return tail


def _parts(text: str, boundary: re.Pattern[str]) -> Iterator[str]:
    start = 0
    for match in boundary.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]
