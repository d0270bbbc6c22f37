"""Counts with a `tokenizer.json`."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from inference_worker.token_counting.count import Tokenize, count_in_thread


class TokenizerFileCounter:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def count(self, texts: Sequence[str]) -> int | None:
        return await count_in_thread(_load, str(self._path), texts)


@lru_cache(maxsize=4)
def _load(path: str) -> Tokenize:
    from tokenizers import Tokenizer  # noqa: PLC0415 - not needed by upstreams that report their usage

    loaded = Tokenizer.from_file(path)
    loaded.no_truncation()
    loaded.no_padding()
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)
