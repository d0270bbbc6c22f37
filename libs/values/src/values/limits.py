"""Product limits that several services keep: each stands here once."""

from typing import Final

MAX_CHAT_BYTES: Final = 15 * 1024 * 1024
"""Largest chat body: with the frame around it, it has to fit into one gRPC message of 16 MiB."""
MAX_MODEL_NAME_CHARACTERS: Final = 256
MAX_EMBEDDING_INPUTS: Final = 2048
"""Texts of one embeddings request, as in OpenAI's reference."""
MAX_RERANK_DOCUMENTS: Final = 1000
"""Documents of one request for scores, as in Cohere's reference."""
MAX_DIMENSIONS: Final = 65_536
MAX_VECTOR_BYTES: Final = 32 * 1024 * 1024
"""All vectors of one embeddings request, as 32-bit floats: the most inputs, with 4,096 numbers each."""
MAX_VECTOR_STORES_PER_REQUEST: Final = 10
MAX_PASSAGES: Final = 50
"""Passages that one search returns, or that one chat puts into its prompt."""
MAX_QUERY_CHARACTERS: Final = 8_192
"""Characters of a search query."""
MAX_CACHE_AGE_SECONDS: Final = 366 * 24 * 3600
"""The oldest cached answer that a request can ask for."""
