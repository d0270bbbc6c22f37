"""Counts with OpenAI's encodings, from the files in litellm's wheel; never from the network."""

import importlib.util
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from inference_worker.token_counting.count import Tokenize, count_in_thread


class TiktokenCounter:
    def __init__(self, encoding: str) -> None:
        """`encoding` is a name such as `cl100k_base`."""
        self._encoding = encoding

    async def count(self, texts: Sequence[str]) -> int | None:
        return await count_in_thread(_load, self._encoding, texts)


@lru_cache(maxsize=4)
def _load(encoding: str) -> Tokenize:
    # Located, not imported: litellm would take 200 MB. Without the folder tiktoken would ask the network.
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("litellm's wheel holds the encodings")
    folder = Path(spec.submodule_search_locations[0], "litellm_core_utils", "tokenizers")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    import tiktoken  # noqa: PLC0415 - 40 MB with its encoding

    loaded = tiktoken.get_encoding(encoding)
    return lambda text: len(loaded.encode_ordinary(text))
