"""Tokenizers from a `tokenizer.json`."""

from functools import lru_cache

from inference_worker.token_counting.count import Tokenize


@lru_cache(maxsize=4)
def load_tokenizer(path: str) -> Tokenize:
    from tokenizers import Tokenizer  # noqa: PLC0415 - not needed by upstreams that report their usage

    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
