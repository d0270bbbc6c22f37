"""Exports SmolLM2's tokenizer from the GGUF file to a `tokenizer.json`, with which the worker counts tokens."""

from pathlib import Path

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

_CONTROL, _USER_DEFINED = 3, 4


def export(gguf: Path, target: Path) -> None:
    """Write the tokenizer of `gguf` to the file `target`, atomically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    rebuild(gguf).save(str(partial))
    partial.rename(target)


def rebuild(gguf: Path) -> Tokenizer:
    """Build the tokenizer: byte-level BPE with single digits, as in the pre-tokenizer `smollm`."""
    fields = GGUFReader(gguf).fields
    kind = fields["tokenizer.ggml.pre"].contents()
    if kind != "smollm":
        raise ValueError(f"{gguf.name} has the pre-tokenizer {kind!r}, and only 'smollm' is supported")
    tokens: list[str] = fields["tokenizer.ggml.tokens"].contents()
    types: list[int] = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, number in zip(tokens, types, strict=True) if number in (_CONTROL, _USER_DEFINED)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer
