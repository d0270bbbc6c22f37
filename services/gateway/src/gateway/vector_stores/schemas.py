"""Vector stores, their files and search results in OpenAI's shapes."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, model_validator
from values.attributes import (
    MAX_ATTRIBUTE_KEY_CHARACTERS,
    MAX_ATTRIBUTE_VALUE_CHARACTERS,
    MAX_ATTRIBUTES,
    MAX_FILTER_VALUES,
    AttributeValue,
    Filter,
    check_attributes,
    check_metadata,
    to_filter,
)
from values.limits import MAX_PASSAGES, MAX_QUERY_CHARACTERS

from gateway.web.schemas import Id, OptionalName, Resource, StrictBody

AttachmentStatus = Literal["in_progress", "completed", "failed"]

# OpenAI's bounds of a chunk.
MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS = 100, 4_096

# Postgres cannot store zero characters.
_STORABLE = r"^[^\x00]*$"
AttributeKey = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE_KEY_CHARACTERS, pattern=_STORABLE)]
AttributeText = Annotated[str, Field(max_length=MAX_ATTRIBUTE_VALUE_CHARACTERS, pattern=_STORABLE)]
Scalar = AttributeText | float | bool
# Checked by hand, so that a whole number stays one: as a float, an id of 17 digits would become another.
NewAttributes = Annotated[
    dict[str, AttributeValue],
    PlainValidator(
        check_attributes,
        json_schema_input_type=Annotated[dict[AttributeKey, Scalar], Field(max_length=MAX_ATTRIBUTES)],
    ),
]


NewMetadata = Annotated[
    dict[str, str],
    PlainValidator(
        check_metadata,
        json_schema_input_type=Annotated[dict[AttributeKey, AttributeText], Field(max_length=MAX_ATTRIBUTES)],
    ),
]


class FileCounts(BaseModel):
    in_progress: int
    completed: int
    failed: int
    cancelled: int = 0
    total: int


class ExpiresAfter(StrictBody):
    """How long after its last search, or the last file that was attached, a vector store expires."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(strict=True, ge=1, le=365)]


class VectorStoreInfo(BaseModel):
    """What only Argosy tells of a vector store: the model of its vectors."""

    embedding_model: str


class VectorStoreRead(Resource):
    """A vector store. An `expired` one can no longer be searched or filled, and its content is deleted."""

    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["in_progress", "completed", "expired"]
    expires_after: ExpiresAfter | None = None
    expires_at: int | None = None
    last_active_at: int
    metadata: dict[str, str] = Field({})
    argosy: VectorStoreInfo


class LastError(BaseModel):
    """Why a file could not be indexed; `code` is stable and documented."""

    code: str
    message: str


class FileWarning(BaseModel):
    """What of a file is not searchable although it is indexed; `code` is stable and documented."""

    code: str
    message: str


class ChunkSizes(BaseModel):
    max_chunk_size_tokens: int
    chunk_overlap_tokens: int


class StaticChunkingRead(BaseModel):
    type: Literal["static"] = "static"
    static: ChunkSizes


class OtherChunkingRead(BaseModel):
    """Of a file that was attached before it could be chosen."""

    type: Literal["other"] = "other"


class AttachmentRead(Resource):
    """A file in a vector store. `warnings` tell what was left out of it on purpose, such as text in pictures."""

    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    vector_store_id: str
    status: AttachmentStatus
    last_error: LastError | None = None
    warnings: list[FileWarning] = Field([])
    usage_bytes: int
    attributes: dict[str, str | int | float | bool] = Field({})
    chunking_strategy: StaticChunkingRead | OtherChunkingRead


class TextContent(BaseModel):
    type: Literal["text"] = "text"
    text: str


class PassageRead(BaseModel):
    """A search result. `attributes` are those of its file, and its page where the file has no attribute `page`."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | int | float | bool]
    content: list[TextContent]


class SearchNotes(BaseModel):
    """Whether a reranker has ordered the results, and what was asked for and not done, a sentence each."""

    reranked: bool = False
    warnings: list[str] = Field([])


class SearchPage(BaseModel):
    """Search results, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[PassageRead]
    has_more: Literal[False] = False
    next_page: None = None
    argosy: SearchNotes = SearchNotes()


class StaticChunking(StrictBody):
    """How a file is split, in tokens of the embedding model. Chunks end at the ends of sentences.

    `chunk_overlap_tokens` is at most half of `max_chunk_size_tokens`, and counts whole sentences: at least one, unless
    it is 0.
    """

    max_chunk_size_tokens: Annotated[int, Field(strict=True, ge=MIN_CHUNK_TOKENS, le=MAX_CHUNK_TOKENS)]
    chunk_overlap_tokens: Annotated[int, Field(strict=True, ge=0)]

    @model_validator(mode="after")
    def check_overlap(self) -> Self:
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            raise ValueError("chunk_overlap_tokens may be at most half of max_chunk_size_tokens")
        return self


class ChunkingStrategy(StrictBody):
    """`auto` is the installation's own: chunks that the embedding model reads in one piece.

    With `static`, a chunk that is larger than what the model reads at once is embedded in pieces, whose mean is its
    vector: all of its text is found, and its meaning less sharply than that of small chunks.
    """

    type: Literal["auto", "static"]
    static: StaticChunking | None = None

    @model_validator(mode="after")
    def check_static(self) -> Self:
        if (self.type == "static") is (self.static is None):
            raise ValueError("give static with the type static, and with no other")
        return self


EmbeddingModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]


class VectorStoreOptions(StrictBody):
    """Options of Argosy's own.

    `embedding_model` is the model of the store's vectors, one of those that the operator allows. A migration can change
    it later: `POST /v1/vector_stores/{id}/migrations`.
    """

    embedding_model: EmbeddingModelName | None = None


class VectorStoreCreate(StrictBody):
    name: OptionalName | None = None
    argosy: VectorStoreOptions | None = None
    file_ids: Annotated[list[Id], Field(max_length=500)] = Field([])
    expires_after: ExpiresAfter | None = None
    metadata: NewMetadata | None = None
    chunking_strategy: ChunkingStrategy | None = None


class VectorStoreUpdate(StrictBody):
    """What to change; what is not named stays. Without a value, a store has no name or metadata, or never expires."""

    name: OptionalName | None = None
    expires_after: ExpiresAfter | None = None
    metadata: NewMetadata | None = None


class AttachmentCreate(StrictBody):
    """A file to attach. When it is in the vector store already, `attributes` replace those that it has there."""

    file_id: Id
    attributes: NewAttributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class AttachmentUpdate(StrictBody):
    """The new attributes of a file, all of them; null is none."""

    attributes: NewAttributes | None


class ComparisonFilter(StrictBody):
    """Compares an attribute of a file. A number is equal to no string, and true to neither, and they have no order.

    `ne` holds for a file without the attribute too; the other types do not.
    """

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte"]
    key: AttributeKey
    value: Scalar


class MembershipFilter(StrictBody):
    """Looks for an attribute of a file among values. `nin` holds for a file without the attribute too."""

    type: Literal["in", "nin"]
    key: AttributeKey
    value: Annotated[list[Scalar], Field(max_length=MAX_FILTER_VALUES)]


class CompoundFilter(StrictBody):
    """Holds when all of its filters hold, or one of them. Up to eight levels deep."""

    type: Literal["and", "or"]
    filters: Annotated[list["ComparisonFilter | MembershipFilter | CompoundFilter"], Field(min_length=1)]


class RankingOptions(StrictBody):
    """How results are ranked.

    `auto` and OpenAI's name put exact hits first, and rank by what the best results have in common. `none` is the
    fusion of the searches by words and by meaning alone. `rerank` has the installation's reranker read the best 50
    passages with the query, which is billed; where it does not answer in time the order is that of `auto`, and
    `argosy.warnings` says so. Scores are from 0 to 1. Those of `auto` and `none` are relative to the other results of
    the same search: a threshold leaves out the worse of them, and does not tell whether the best is an answer.
    """

    ranker: Literal["auto", "none", "rerank", "default-2024-11-15"] | None = None
    score_threshold: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None


# Retrieval refuses an empty query, and zero characters, which Postgres cannot store.
Query = Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Queries = Annotated[list[Query], Field(min_length=1, max_length=8)]
AnyFilter = ComparisonFilter | MembershipFilter | CompoundFilter


def to_list(query: Any) -> Any:
    return [query] if isinstance(query, str) else query


class SearchCreate(StrictBody):
    """A search. With `rewrite_query` the queries are searched for as they are, too, as `search_query` tells."""

    # With a union of types, pydantic would name errors after the types.
    query: Annotated[Queries, BeforeValidator(to_list, json_schema_input_type=Query | Queries)]
    max_num_results: Annotated[int, Field(strict=True, ge=1, le=MAX_PASSAGES)] = 10
    filters: Annotated[Filter, PlainValidator(to_filter, json_schema_input_type=AnyFilter)] | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: Annotated[bool, Field(strict=True)] = False
