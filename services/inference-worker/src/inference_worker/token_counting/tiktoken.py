"""Tokenizers, for upstreams that do not say what they used. Loaded at the first count: most routes never need one."""

import asyncio
import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from chassis.telemetry import logger

log = logger(__name__)

# Texts of this many characters are counted at a time: tokenizers keep several bytes per character while they work.
PIECE_CHARACTERS = 64 * 1024

Count = Callable[[str], int]


class TiktokenCounter:
    """Counts with one of OpenAI's encodings, from the files that litellm's wheel carries; never from the network."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    async def count(self, texts: Sequence[str]) -> int | None:
        """Tokens of all texts together, counted in a thread."""
        return await asyncio.to_thread(_count_all, _load_tiktoken, self._encoding, tuple(texts))


class TokenizerFileCounter:
    """Counts with a `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def count(self, texts: Sequence[str]) -> int | None:
        """Tokens of all texts together, counted in a thread."""
        return await asyncio.to_thread(_count_all, _load_tokenizer, str(self._path), tuple(texts))


def _count_all(load: Callable[[str], Count], name: str, texts: tuple[str, ...]) -> int | None:
    try:
        count = load(name)
        return sum(count(piece) for text in texts for piece in _pieces(text))
    except Exception:
        log.exception("count_failed", tokenizer=name)
        return None


def _pieces(text: str) -> list[str]:
    return [text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS)]


@lru_cache(maxsize=4)
def _load_tiktoken(encoding: str) -> Count:
    # Looked up, not imported: litellm would cost 200 MB. Without the folder tiktoken would ask the network.
    found = importlib.util.find_spec("litellm")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("litellm's wheel holds the encodings")
    folder = Path(found.submodule_search_locations[0], "litellm_core_utils", "tokenizers")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    import tiktoken  # noqa: PLC0415 - 40 MB with its encoding

    known = tiktoken.get_encoding(encoding)
    return lambda text: len(known.encode_ordinary(text))


@lru_cache(maxsize=4)
def _load_tokenizer(path: str) -> Count:
    from tokenizers import Tokenizer  # noqa: PLC0415

    known = Tokenizer.from_file(path)
    known.no_truncation()
    known.no_padding()
    return lambda text: len(known.encode(text, add_special_tokens=False).ids)
