"""Vector stores, their files and search results in OpenAI's shapes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from values.limits import MAX_PASSAGES, MAX_QUERY_CHARACTERS

from gateway.web.schemas import Id, OptionalName, Resource, StrictBody

AttachmentStatus = Literal["in_progress", "completed", "failed"]


class FileCounts(BaseModel):
    in_progress: int
    completed: int
    failed: int
    cancelled: int = 0
    total: int


class VectorStoreRead(Resource):
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["in_progress", "completed"]
    expires_after: None = None
    expires_at: int | None = None
    last_active_at: int | None = None
    metadata: dict[str, str] = Field({})


class LastError(BaseModel):
    """Why a file could not be indexed; `code` is stable and documented."""

    code: str
    message: str


class FileWarning(BaseModel):
    """What of a file is not searchable although it is indexed; `code` is stable and documented."""

    code: str
    message: str


class AttachmentRead(Resource):
    """A file in a vector store. `warnings` tell what was left out of it on purpose, such as text in pictures."""

    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    vector_store_id: str
    status: AttachmentStatus
    last_error: LastError | None = None
    warnings: list[FileWarning] = Field([])
    usage_bytes: int
    attributes: dict[str, str | float | bool] = Field({})
    chunking_strategy: dict[str, Any] = Field({"type": "other"})


class TextContent(BaseModel):
    type: Literal["text"] = "text"
    text: str


class PassageRead(BaseModel):
    """A search result. `attributes` has its page when the format has pages."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | float | bool]
    content: list[TextContent]


class SearchPage(BaseModel):
    """Search results, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[PassageRead]
    has_more: Literal[False] = False
    next_page: None = None


class AutoChunking(StrictBody):
    """The installation's own chunking, the only one supported."""

    type: Literal["auto"]


class VectorStoreCreate(StrictBody):
    name: OptionalName | None = None
    file_ids: Annotated[list[Id], Field(max_length=500)] = Field([])
    metadata: Annotated[dict[str, str], Field(max_length=0)] | None = None
    chunking_strategy: AutoChunking | None = None


class AttachmentCreate(StrictBody):
    file_id: Id
    attributes: Annotated[dict[str, str | float | bool], Field(max_length=0)] | None = None
    chunking_strategy: AutoChunking | None = None


class RankingOptions(StrictBody):
    """Results are ranked by words and meaning, exact hits first; the scores allow no meaningful threshold."""

    ranker: str | None = None
    score_threshold: Annotated[float, Field(strict=True, ge=0, le=0)] | None = None


# Retrieval refuses an empty query, and zero characters, which Postgres cannot store.
Query = Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Queries = Annotated[list[Query], Field(min_length=1, max_length=8)]


def to_list(query: Any) -> Any:
    return [query] if isinstance(query, str) else query


class SearchCreate(StrictBody):
    # With a union of types, pydantic would name errors after the types.
    query: Annotated[
        Queries,
        BeforeValidator(to_list, json_schema_input_type=Query | Queries),
    ]
    max_num_results: Annotated[int, Field(strict=True, ge=1, le=MAX_PASSAGES)] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: Annotated[bool, Field(strict=True)] = False
