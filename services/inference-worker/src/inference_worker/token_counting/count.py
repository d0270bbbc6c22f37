"""Counts in a thread, with a tokenizer that is loaded at the first count: most upstreams report their usage."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from chassis.telemetry import logger

log = logger(__name__)

PIECE_CHARACTERS = 64 * 1024
"""Length of the texts that a tokenizer gets: it needs several bytes per character while it works."""

Tokenize = Callable[[str], int]
"""Returns how many tokens a text has."""


class LazyTokenCounter:
    def __init__(self, load: Callable[[str], Tokenize], tokenizer: str) -> None:
        self._load = load
        self._tokenizer = tokenizer

    async def count(self, texts: Sequence[str]) -> int | None:
        return await asyncio.to_thread(self._count, tuple(texts))

    def _count(self, texts: tuple[str, ...]) -> int | None:
        try:
            tokenize = self._load(self._tokenizer)
            return sum(tokenize(piece) for text in texts for piece in _pieces(text))
        except Exception:
            log.exception("count_failed", tokenizer=self._tokenizer)
            return None


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS))
