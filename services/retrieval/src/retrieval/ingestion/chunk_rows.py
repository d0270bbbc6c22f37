"""Chunks, vectors and spaces as rows."""

from collections.abc import Sequence
from typing import Any

from retrieval.embeddings.model import EmbeddingSpace, to_floats, vector_to_floats
from retrieval.ingestion.model import Claim, EmbeddedChunk, TextVector

# Of a dimension of a stored vector, which a Vector has in four.
BYTES_PER_DIMENSION = 2


def row_to_space(row: Any) -> EmbeddingSpace:
    return EmbeddingSpace(row["embedding_model"], row["space"])


def row_to_next_space(row: Any) -> EmbeddingSpace | None:
    """The space to which the store is being migrated."""
    if row["next_space"] is None:
        return None
    return EmbeddingSpace(row["next_embedding_model"], row["next_space"])


def stored_bytes(vector: TextVector) -> int:
    return BYTES_PER_DIMENSION * len(vector.vector) // 4


def chunk_to_row(claim: Claim, space: EmbeddingSpace, item: EmbeddedChunk, own: TextVector) -> tuple[object, ...]:
    """`own` is the vector in `space`, that of the store; the row holds it in space 0 only."""
    return (
        claim.key.tenant_id,
        claim.key.vector_store_id,
        claim.attachment,
        item.chunk.ordinal,
        item.chunk.page,
        item.chunk.text,
        own.fingerprint,
        None if space.number else vector_to_floats(own.vector),
    )


def vector_rows(
    claim: Claim, space: EmbeddingSpace, batch: Sequence[EmbeddedChunk], vectors: Sequence[TextVector | None]
) -> list[tuple[object, ...]]:
    """Rows of `chunk_vectors`, without chunks whose vector is not known."""
    where = (claim.key.tenant_id, claim.key.vector_store_id, space.number, claim.attachment)
    return [
        (*where, item.chunk.ordinal, one.fingerprint, to_floats(one.vector))
        for item, one in zip(batch, vectors, strict=True)
        if one is not None
    ]
