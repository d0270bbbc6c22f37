"""Inputs of embeddings: texts, or the ids of their tokens in the model's own encoding."""

from collections.abc import Iterator, Sequence
from typing import Final

EmbeddingInput = str | tuple[int, ...]
"""A text, or token ids. The inputs of one request are all of one kind."""

MAX_TOKEN_ID: Final = 2**31 - 1
TOKEN_ID_BYTES: Final = 4
"""What a token id counts for where inputs are bounded in bytes."""

SPECIAL_TOKENS_PER_INPUT: Final = 8
"""The most tokens that an embedding model adds around each input."""

MAX_BYTES_PER_TOKEN_ID: Final = 16
"""What the text of one token is reserved for, on average. Prose has four to five bytes per token."""

MAX_BYTES_PER_INPUT: Final = 128
"""What is reserved for each input besides: the longest token of `cl100k_base` has so many bytes."""

FLOAT_BYTES: Final = 4
"""Of one number of a vector."""

PIECE_BYTES: Final = 256 * 1024
"""Vectors that travel in one message: as many as one side of a call may send before the other has read."""


def split_vectors(vectors: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the vectors in pieces of about `PIECE_BYTES`, each of at least one vector; one empty piece for none."""
    size = max(1, PIECE_BYTES // (len(vectors[0]) or 1)) if vectors else 1
    for start in range(0, max(1, len(vectors)), size):
        yield vectors[start : start + size]


def input_bytes(inputs: Sequence[EmbeddingInput]) -> int:
    """Return the size of all inputs together."""
    return sum(len(one.encode()) if isinstance(one, str) else len(one) * TOKEN_ID_BYTES for one in inputs)


def max_text_bytes(inputs: Sequence[Sequence[int]]) -> int:
    """Return the most bytes that the texts of these token ids may have: more than that is not reserved."""
    return MAX_BYTES_PER_TOKEN_ID * sum(map(len, inputs)) + MAX_BYTES_PER_INPUT * len(inputs)


def max_embedding_tokens(inputs: Sequence[EmbeddingInput]) -> int:
    """Return an upper bound of the tokens that a provider bills.

    A text has at most one token per byte. Token ids are billed by their number where the provider takes them, and by
    those of their text elsewhere: which one is not known before the call.
    """
    texts = sum(len(one.encode()) for one in inputs if isinstance(one, str))
    return (
        texts
        + max_text_bytes([one for one in inputs if not isinstance(one, str)])
        + (SPECIAL_TOKENS_PER_INPUT * len(inputs))
    )
