"""Counting in a thread, with a tokenizer that is loaded at the first count: most upstreams report their usage."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from chassis.telemetry import logger

log = logger(__name__)

PIECE_CHARACTERS = 64 * 1024
"""Length of the texts that a tokenizer gets: it needs several bytes per character while it works."""

Tokenize = Callable[[str], int]
"""Returns how many tokens a text has."""


async def count_in_thread(load: Callable[[str], Tokenize], tokenizer: str, texts: Sequence[str]) -> int | None:
    """Return the tokens of all texts together; None when the tokenizer cannot be loaded or fails."""
    return await asyncio.to_thread(_count, load, tokenizer, tuple(texts))


def _count(load: Callable[[str], Tokenize], tokenizer: str, texts: tuple[str, ...]) -> int | None:
    try:
        tokenize = load(tokenizer)
        return sum(tokenize(piece) for text in texts for piece in _pieces(text))
    except Exception:
        log.exception("count_failed", tokenizer=tokenizer)
        return None


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS))
