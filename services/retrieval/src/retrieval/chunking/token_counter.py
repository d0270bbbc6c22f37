"""Counting tokens for chunks."""

import re
from collections.abc import Sequence
from typing import Protocol


class TokenCounter(Protocol):
    """Counts tokens as the embedding model does, or an upper bound."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text. The count of texts joined is at most the sum of their counts."""


class EstimatedTokenCounter:
    """An upper bound without a tokenizer: a token per three letters or digits, and one per other character."""

    _parts = re.compile(r"[A-Za-z0-9]+|\S")

    def count(self, texts: Sequence[str]) -> list[int]:
        return [sum(-(-len(part) // 3) for part in self._parts.findall(text)) for text in texts]
