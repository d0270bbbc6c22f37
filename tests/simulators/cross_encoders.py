"""Real cross-encoders that tests build: one whose score is the words in common, and one of BERT's shape."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from argosy_dev.parts.models.minilm import Graph
from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = ("a", "ship", "sails", "over", "the", "sea", "invoice", "is", "due", "on", "friday")
VOCABULARY = {word: number for number, word in enumerate(("[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS))}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    marks = [(mark, VOCABULARY[mark]) for mark in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_overlap(folder: Path) -> Path:
    """A model whose number for a pair is how many of the document's words the query has, less 3."""
    graph = Graph()
    mask = graph.add("Cast", "attention_mask", to=TensorProto.BOOL)
    second = graph.add("And", graph.add("Cast", "token_type_ids", to=TensorProto.BOOL), mask)
    first = graph.add("And", graph.add("Not", second), mask)
    of_query, of_document = graph.integers(1), graph.integers(2)
    same = graph.add(
        "Equal", graph.add("Unsqueeze", "input_ids", of_query), graph.add("Unsqueeze", "input_ids", of_document)
    )
    sides = graph.add("And", graph.add("Unsqueeze", first, of_query), graph.add("Unsqueeze", second, of_document))
    common = graph.add("Cast", graph.add("And", same, sides), to=TensorProto.FLOAT)
    summed = graph.add("ReduceSum", common, graph.integers(1, 2), keepdims=0)
    # The mark at the end of each side is common to all pairs.
    less = graph.add("Sub", summed, graph.weight("less", np.array(4, np.float32)))
    graph.nodes.append(helper.make_node("Unsqueeze", [less, graph.integers(1)], ["logits"]))
    return write_model(folder, graph)


def write_bert(
    folder: Path, *, layers: int, width: int, heads: int, vocabulary: int = 30_522, places: int = 512
) -> Path:
    """A model of BERT's shape with random weights, which has the cost of a trained one. It reads `places` tokens."""
    random, graph = np.random.default_rng(1), Graph()

    def weight(name: str, *shape: int) -> str:
        return graph.weight(name, random.normal(0, 0.05, shape).astype(np.float32))

    def linear(name: str, value: str, inputs: int, outputs: int) -> str:
        product = graph.add("MatMul", value, weight(f"{name}.weight", inputs, outputs))
        return graph.add("Add", product, weight(f"{name}.bias", outputs))

    def normal(name: str, value: str) -> str:
        scale = graph.weight(f"{name}.scale", np.ones(width, np.float32))
        shift = graph.weight(f"{name}.shift", np.zeros(width, np.float32))
        return graph.add("LayerNormalization", value, scale, shift, axis=-1, epsilon=1e-12)

    here = graph.add("Slice", weight("places", places, width), *_span(graph))
    words = graph.add("Gather", weight("words", vocabulary, width), "input_ids")
    types = graph.add("Gather", weight("types", 2, width), "token_type_ids")
    hidden = normal("embeddings", graph.add("Add", graph.add("Add", words, types), here))
    one, low = (graph.weight(name, np.array(value, np.float32)) for name, value in (("one", 1), ("low", -1e9)))
    padding = graph.add("Mul", graph.add("Sub", one, graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)), low)
    bias = graph.add("Unsqueeze", padding, graph.integers(1, 2))
    shape = graph.integers(0, 0, heads, width // heads)
    for layer in range(layers):
        joined = graph.split(linear(f"{layer}.qkv", hidden, width, 3 * width), 3)
        query, key, value = (graph.add("Reshape", part, shape) for part in joined)
        query, value = (graph.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
        scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 2, 3, 1]))
        mixed = graph.add("MatMul", graph.add("Softmax", graph.add("Add", scores, bias), axis=-1), value)
        mixed = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), graph.integers(0, 0, width))
        hidden = normal(f"{layer}.one", graph.add("Add", linear(f"{layer}.mixed", mixed, width, width), hidden))
        wide = graph.add("Gelu", linear(f"{layer}.wide", hidden, width, 4 * width))
        hidden = normal(f"{layer}.two", graph.add("Add", linear(f"{layer}.narrow", wide, 4 * width, width), hidden))
    mark = graph.add("Squeeze", graph.add("Gather", hidden, graph.integers(0), axis=1), graph.integers(1))
    graph.nodes.append(helper.make_node("Identity", [linear("score", mark, width, 1)], ["logits"]))
    return write_model(folder, graph)


def _span(graph: Graph) -> tuple[str, str, str]:
    return graph.integers(0), graph.add("Shape", "input_ids", start=1, end=2), graph.integers(0)


def write_model(folder: Path, graph: Graph, *, inputs: tuple[str, ...] = INPUTS, labels: int = 1) -> Path:
    """Write `model.onnx` and the tokenizer; returns the folder."""
    given: Any = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])
    body = helper.make_graph(graph.nodes, "cross-encoder", given, [output], graph.weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    write_tokenizer(folder)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder
