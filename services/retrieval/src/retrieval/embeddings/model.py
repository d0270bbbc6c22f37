"""Vectors of texts."""

import hashlib
from collections.abc import Sequence
from typing import NewType, Protocol

from chassis.errors import ArgosyError, Kind

# Of MiniLM-L6, and of the index.
DIMENSIONS = 384

# Little-endian 32-bit floats. Opaque here: only stores look inside.
Vector = NewType("Vector", bytes)


class VectorsUnfit(ArgosyError):
    """The embedding model answers vectors that the index cannot hold; its route or its upstream is set up wrongly."""

    kind, reason = Kind.UPSTREAM, "VECTORS_UNFIT"


class Embedder(Protocol):
    """Turns texts into vectors on the account of the current caller."""

    model: str

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order; no text may be blank. Raises VectorsUnfit, else as the fleet said it."""


def fingerprint(model: str, text: str) -> bytes:
    """What equal texts share that were embedded by the same model."""
    return hashlib.sha256(f"{model}\0{text}".encode()).digest()
