"""What ingestion and search need from an embedding model."""

from collections.abc import Sequence
from typing import Protocol

from retrieval.embeddings.model import Vector


class Embedder(Protocol):
    """Embeds texts. The current caller pays."""

    model: str

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order; no text may be blank.

        Raises IncompatibleEmbedding, and errors of other services unchanged.
        """
