"""Vectors and BM25 scores of texts by textbook formulas, to compare the real index with."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections import Counter
from collections.abc import Sequence

from retrieval.embeddings.model import DIMENSIONS, Vector
from retrieval.search.model import ChunkKey


class WordTokenCounter:
    """A token per word."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def a_vector(text: str, model: str = "", dimensions: int = DIMENSIONS) -> Vector:
    """Texts that share words have near vectors of the same model, and vectors of two models have nothing in common."""
    floats = [0.0] * dimensions
    for word in words(text):
        floats[int.from_bytes(hashlib.sha256((model + word).encode()).digest()[:4], "big") % dimensions] += 1.0
    length = math.sqrt(sum(number * number for number in floats)) or 1.0
    return Vector(struct.pack(f"<{dimensions}f", *(number / length for number in floats)))


def cosine(one: Vector, other: Vector) -> float:
    left, right = (struct.unpack(f"<{len(vector) // 4}f", vector) for vector in (one, other))
    total: float = sum(a * b for a, b in zip(left, right, strict=True))
    return total


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def bm25(query: set[str], documents: dict[ChunkKey, Counter[str]]) -> dict[ChunkKey, float]:
    """Okapi BM25 by the textbook formula."""
    average = sum(document.total() for document in documents.values()) / max(len(documents), 1)
    scores: dict[ChunkKey, float] = {}
    for word in query:
        holding = [key for key, document in documents.items() if document[word]]
        idf = math.log(1 + (len(documents) - len(holding) + 0.5) / (len(holding) + 0.5))
        for key in holding:
            frequency, length = documents[key][word], documents[key].total()
            weight = frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / average))
            scores[key] = scores.get(key, 0.0) + idf * weight
    return scores
