"""Queries over vector stores and the passages that answer them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from chassis.errors import InvalidRequest
from values.attributes import Attributes, Filter
from values.limits import MAX_VECTOR_STORES_PER_REQUEST

from retrieval.embeddings.model import EmbeddingSpace

MAX_QUERY_CHARACTERS = 8_192


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """Identifies a chunk. `attachment` is the number of a file in a store."""

    vector_store_id: str
    attachment: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A chunk's text and its source."""

    file_id: str
    filename: str
    page: int
    text: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreContents:
    """What some vector stores hold at one moment: chunks that can be found, and the space of each store."""

    chunks: int
    spaces: Mapping[str, EmbeddingSpace]


class StoreSpaceChanged(Exception):
    """A store has changed to another embedding model since its contents were read: read them again."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found. A higher score is better; scores of different searches are not comparable."""

    vector_store_id: str
    source: ChunkText
    score: float


class Ranker(StrEnum):
    """How passages are ranked."""

    AUTO = "auto"
    FUSION = "fusion"
    """By the fusion of both searches alone."""
    RERANK = "rerank"
    """By the reranker, if the settings name one."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A query over vector stores. Raises InvalidRequest when it is empty or too large.

    Only files whose attributes fit `filters` are searched. Passages with less than `min_score` are left out.
    """

    vector_store_ids: tuple[str, ...]
    query: str
    limit: int
    filters: Filter | None = None
    ranker: Ranker = Ranker.AUTO
    min_score: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.vector_store_ids) <= MAX_VECTOR_STORES_PER_REQUEST:
            raise InvalidRequest(f"name 1 to {MAX_VECTOR_STORES_PER_REQUEST} vector stores", param="vector_store_ids")
        if not self.query.strip() or "\0" in self.query:
            raise InvalidRequest("query must not be empty", param="query")
        if len(self.query) > MAX_QUERY_CHARACTERS:
            raise InvalidRequest(f"query may have at most {MAX_QUERY_CHARACTERS} characters", param="query")
        if not 0 <= self.min_score <= 1:
            raise InvalidRequest("the least score is from 0 to 1", param="min_score")
