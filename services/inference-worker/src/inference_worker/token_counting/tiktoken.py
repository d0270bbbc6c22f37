"""OpenAI's encodings, from the files in litellm's wheel; never from the network."""

import importlib.util
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from inference_worker.token_counting.count import Tokenize

if TYPE_CHECKING:
    from tiktoken import Encoding


def load_encoding(name: str) -> Tokenize:
    """Load an encoding such as `cl100k_base`."""
    encoding = _load(name)
    return lambda text: len(encoding.encode_ordinary(text))


def load_token_bytes(name: str) -> Callable[[int], bytes]:
    """Load an encoding to read token ids by: it raises `KeyError` for one that is not in it."""
    return _load(name).decode_single_token_bytes


@lru_cache(maxsize=4)
def _load(name: str) -> "Encoding":
    # Located, not imported: litellm would take 200 MB. Without the folder tiktoken would download the files.
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("litellm's wheel holds the encodings")
    folder = Path(spec.submodule_search_locations[0], "litellm_core_utils", "tokenizers")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    import tiktoken  # noqa: PLC0415 - 40 MB with its encoding

    return tiktoken.get_encoding(name)
