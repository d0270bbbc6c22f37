import subprocess
import sys
from pathlib import Path

import pytest
from inference_worker.token_counting.count import LazyTokenCounter
from inference_worker.token_counting.model import NullTokenCounter
from inference_worker.token_counting.tiktoken import load_encoding
from inference_worker.token_counting.tokenizer_file import load_tokenizer

TOKENIZER = """{
  "version": "1.0", "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
  "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
  "post_processor": null, "decoder": null,
  "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "one": 1}, "unk_token": "[UNK]"}
}"""


@pytest.mark.parametrize(("encoding", "tokens"), [("cl100k_base", 2), ("o200k_base", 2), ("p50k_base", 2)])
async def test_openais_encodings_need_no_network(encoding: str, tokens: int):
    assert await LazyTokenCounter(load_encoding, encoding).count(["hello world"]) == tokens
    assert await LazyTokenCounter(load_encoding, encoding).count([]) == 0


async def test_a_special_token_in_a_text_is_counted_as_text():
    assert (await LazyTokenCounter(load_encoding, "cl100k_base").count(["<|endoftext|>"]) or 0) > 1


async def test_a_tokenizer_file_counts_everything_and_ignores_its_truncation(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text(TOKENIZER)

    assert await LazyTokenCounter(load_tokenizer, str(path)).count(["one two three four", "five"]) == 5


async def test_a_tokenizer_that_fails_makes_the_count_unknown(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text("not a tokenizer")

    assert await LazyTokenCounter(load_tokenizer, str(path)).count(["one"]) is None
    assert await LazyTokenCounter(load_encoding, "no_such_encoding").count(["one"]) is None


async def test_without_a_tokenizer_the_count_is_unknown():
    assert await NullTokenCounter().count(["one"]) is None


def test_the_encodings_are_found_without_importing_litellm():
    code = (
        "import asyncio, sys; from inference_worker.token_counting.count import LazyTokenCounter; "
        "from inference_worker.token_counting.tiktoken import load_encoding; "
        "assert asyncio.run(LazyTokenCounter(load_encoding, 'cl100k_base').count(['a b'])) == 2; "
        "assert 'litellm' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_main_imports_no_large_library():
    code = (
        "import sys, inference_worker.main; "
        "large = {'litellm', 'tiktoken', 'tokenizers', 'onnxruntime', 'numpy'}; "
        "assert not large & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
