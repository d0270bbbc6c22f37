"""Vectors of texts."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from chassis.errors import ArgosyError, Kind

# Dimensions of MiniLM-L6, of the vectors in `chunks`, and of the semantic cache.
DIMENSIONS = 384
# Vectors stand in their rows, and a row must fit into a page of Postgres.
MAX_DIMENSIONS = 4_000

# Little-endian 32-bit floats, as the orchestrator sends them.
Vector = NewType("Vector", bytes)


class IncompatibleEmbedding(ArgosyError):
    """The embedding model returns vectors that the index cannot hold; its route or its upstream is set up wrongly."""

    kind, reason = Kind.UPSTREAM, "INCOMPATIBLE_EMBEDDING"


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """The vectors that one model made for a vector store. Vectors of different spaces are not comparable.

    Space 0 is the column in `chunks`, of 384 dimensions; all others are in `chunk_vectors`. An empty model is the one
    that the service is set up with.
    """

    model: str = ""
    number: int = 0


FIRST_SPACE = EmbeddingSpace()


class Embedder(Protocol):
    """Embeds texts. The current caller pays."""

    model: str

    def of(self, model: str) -> "Embedder":
        """The embedder of another model. Raises IncompatibleEmbedding."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order; no text may be blank.

        Raises IncompatibleEmbedding, and errors of other services unchanged.
        """


def embedder_of(embedder: Embedder, model: str) -> Embedder:
    """The embedder of a store's model. Raises IncompatibleEmbedding for one that the service is not set up with."""
    return embedder if model in {"", embedder.model} else embedder.of(model)


def fingerprint(model: str, text: str) -> bytes:
    """SHA-256 of model and text: equal for equal texts embedded by the same model."""
    return hashlib.sha256(f"{model}\0{text}".encode()).digest()


def vector_to_floats(vector: Vector) -> tuple[float, ...]:
    """For a parameter of type real[] that becomes a column of 384 dimensions. Raises ValueError for another number."""
    if len(vector) != DIMENSIONS * 4:
        raise ValueError(f"a vector of {len(vector) // 4} dimensions, the index has {DIMENSIONS}")
    return to_floats(vector)


def to_floats(vector: Vector) -> tuple[float, ...]:
    """For a parameter of type real[], of any number of dimensions."""
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def floats_to_vector(floats: Sequence[float]) -> Vector:
    """From a column cast to real[]."""
    return Vector(struct.pack(f"<{len(floats)}f", *floats))
