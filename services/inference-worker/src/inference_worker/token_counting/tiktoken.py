"""OpenAI's encodings, from the files in litellm's wheel; never from the network."""

import importlib.util
import os
from functools import lru_cache
from pathlib import Path

from inference_worker.token_counting.count import Tokenize


@lru_cache(maxsize=4)
def load_encoding(name: str) -> Tokenize:
    """Load an encoding such as `cl100k_base`."""
    # Located, not imported: litellm would take 200 MB. Without the folder tiktoken would download the files.
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("litellm's wheel holds the encodings")
    folder = Path(spec.submodule_search_locations[0], "litellm_core_utils", "tokenizers")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    import tiktoken  # noqa: PLC0415 - 40 MB with its encoding

    encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))
