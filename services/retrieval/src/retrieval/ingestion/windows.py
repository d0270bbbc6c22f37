"""The whole of a large chunk for a model that reads only the beginning of a text: it is embedded in windows."""

import math
import struct
from collections.abc import Sequence

from retrieval.chunking.splitter import Splitter
from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Vector
from retrieval.parsing.model import Block

# MiniLM reads 256 tokens, two of which mark the ends.
READ_TOKENS = 254


def split_into_windows(text: str, counter: TokenCounter) -> list[str]:
    """The windows of a chunk, in order, without overlap; the text itself when the model reads all of it."""
    # A token has a character at least, so short texts need not be counted.
    if len(text) <= READ_TOKENS or counter.count([text])[0] <= READ_TOKENS:
        return [text]
    splitter = Splitter(counter, READ_TOKENS, 0)
    return [chunk.text for chunk in [*splitter.feed(Block(0, text)), *splitter.finish()]] or [text]


def mean_vector(vectors: Sequence[Vector]) -> Vector:
    """The mean of the vectors, of length 1, so that each window counts the same."""
    if len(vectors) == 1:
        return vectors[0]
    columns = zip(*(struct.unpack(f"<{len(vector) // 4}f", vector) for vector in vectors), strict=True)
    mean = [math.fsum(column) / len(vectors) for column in columns]
    length = math.sqrt(math.fsum(number * number for number in mean)) or 1.0
    return Vector(struct.pack(f"<{len(mean)}f", *(number / length for number in mean)))
