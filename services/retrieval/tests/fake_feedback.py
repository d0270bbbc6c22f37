"""What the index in memory tells of chunks: the feedback of a search, by words instead of lexemes."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from retrieval.embeddings.model import Vector
from retrieval.ingestion.model import EmbeddedChunk
from retrieval.search.feedback import Candidate, Relevant
from retrieval.search.model import ChunkKey

from services.retrieval.tests.texts import cosine, words

Chunks = Mapping[ChunkKey, EmbeddedChunk]


def best(scores: Mapping[ChunkKey, float], limit: int) -> dict[ChunkKey, float]:
    """The highest scores, best first."""
    ranked = sorted(scores, key=lambda key: (-scores[key], key.attachment, key.ordinal))
    return {key: scores[key] for key in ranked[:limit]}


def relevant_of(chunks: Chunks, keys: Collection[ChunkKey], query: str) -> tuple[dict[str, float], list[Relevant]]:
    relevant = [Relevant(chunks[key].vector, Counter(words(chunks[key].chunk.text))) for key in keys if key in chunks]
    wanted = dict.fromkeys(words(query))
    return {word: 1 / len(wanted) for word in wanted}, relevant


def candidates_of(
    chunks: Chunks, keys: Collection[ChunkKey], vector: Sequence[float], lexemes: Sequence[str]
) -> dict[ChunkKey, Candidate]:
    wanted = Vector(struct.pack(f"<{len(vector)}f", *vector))
    return {key: _candidate(chunks[key], wanted, lexemes) for key in keys if key in chunks}


def _candidate(item: EmbeddedChunk, vector: Vector, lexemes: Sequence[str]) -> Candidate:
    all_words = words(item.chunk.text)
    frequencies = Counter(word for word in all_words if word in lexemes)
    return Candidate(cosine(item.vector, vector), frequencies, len(all_words) if frequencies else 0)
