"""Vectors of texts."""

import hashlib
import struct
from collections.abc import Sequence
from typing import NewType, Protocol

from chassis.errors import ArgosyError, Kind

# Dimensions of MiniLM-L6, and of the index.
DIMENSIONS = 384

# Little-endian 32-bit floats, as the orchestrator sends them.
Vector = NewType("Vector", bytes)


class IncompatibleEmbedding(ArgosyError):
    """The embedding model returns vectors that the index cannot hold; its route or its upstream is set up wrongly."""

    kind, reason = Kind.UPSTREAM, "INCOMPATIBLE_EMBEDDING"


class Embedder(Protocol):
    """Embeds texts. The current caller pays."""

    model: str

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order; no text may be blank.

        Raises IncompatibleEmbedding, and errors of other services unchanged.
        """


def fingerprint(model: str, text: str) -> bytes:
    """SHA-256 of model and text: equal for equal texts embedded by the same model."""
    return hashlib.sha256(f"{model}\0{text}".encode()).digest()


def vector_to_floats(vector: Vector) -> tuple[float, ...]:
    """For a parameter of type real[]. Raises ValueError when the vector has another number of dimensions."""
    if len(vector) != DIMENSIONS * 4:
        raise ValueError(f"a vector of {len(vector) // 4} dimensions, the index has {DIMENSIONS}")
    return struct.unpack(f"<{DIMENSIONS}f", vector)


def floats_to_vector(floats: Sequence[float]) -> Vector:
    """From a column cast to real[]."""
    return Vector(struct.pack(f"<{len(floats)}f", *floats))
