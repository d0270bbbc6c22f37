"""Vector stores, their files and search results in OpenAI's shapes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator
from values.attributes import (
    MAX_ATTRIBUTE_KEY_CHARACTERS,
    MAX_ATTRIBUTE_VALUE_CHARACTERS,
    MAX_ATTRIBUTES,
    MAX_FILTER_VALUES,
    AttributeValue,
    Filter,
    check_attributes,
    to_filter,
)
from values.limits import MAX_PASSAGES, MAX_QUERY_CHARACTERS

from gateway.web.schemas import Id, OptionalName, Resource, StrictBody

AttachmentStatus = Literal["in_progress", "completed", "failed"]

AttributeKey = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE_KEY_CHARACTERS)]
AttributeText = Annotated[str, Field(max_length=MAX_ATTRIBUTE_VALUE_CHARACTERS)]
Scalar = AttributeText | float | bool
# Checked by hand, so that a whole number stays one: as a float, an id of 17 digits would become another.
NewAttributes = Annotated[
    dict[str, AttributeValue],
    PlainValidator(
        check_attributes,
        json_schema_input_type=Annotated[dict[AttributeKey, Scalar], Field(max_length=MAX_ATTRIBUTES)],
    ),
]


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
    attributes: dict[str, str | int | float | bool] = Field({})
    chunking_strategy: dict[str, Any] = Field({"type": "other"})


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
    """A file to attach. When it is in the vector store already, `attributes` replace those that it has there."""

    file_id: Id
    attributes: NewAttributes | None = None
    chunking_strategy: AutoChunking | None = None


class AttachmentUpdate(StrictBody):
    """The new attributes of a file, all of them; null is none."""

    attributes: NewAttributes | None


class ComparisonFilter(StrictBody):
    """Compares an attribute of a file. A number is equal to no string, and true to neither, and they have no order.

    `ne` and `nin` hold for a file without the attribute too; the other types do not.
    """

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: AttributeKey
    value: Scalar | Annotated[list[Scalar], Field(max_length=MAX_FILTER_VALUES)]


class CompoundFilter(StrictBody):
    """Holds when all of its filters hold, or one of them. Up to eight levels deep."""

    type: Literal["and", "or"]
    filters: Annotated[list["ComparisonFilter | CompoundFilter"], Field(min_length=1)]


class RankingOptions(StrictBody):
    """How results are ranked.

    `auto` and OpenAI's name put exact hits first, and rank by what the best results have in common. `none` is the
    fusion of the searches by words and by meaning alone. Scores are from 0 to 1 and relative to the other results of
    the same search: a threshold leaves out the worse of them, and does not tell whether the best is an answer.
    """

    ranker: Literal["auto", "none", "default-2024-11-15"] | None = None
    score_threshold: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None


# Retrieval refuses an empty query, and zero characters, which Postgres cannot store.
Query = Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Queries = Annotated[list[Query], Field(min_length=1, max_length=8)]


def to_list(query: Any) -> Any:
    return [query] if isinstance(query, str) else query


class SearchCreate(StrictBody):
    """A search. With `rewrite_query` the queries are searched for as they are, too, as `search_query` tells."""

    # With a union of types, pydantic would name errors after the types.
    query: Annotated[
        Queries,
        BeforeValidator(to_list, json_schema_input_type=Query | Queries),
    ]
    max_num_results: Annotated[int, Field(strict=True, ge=1, le=MAX_PASSAGES)] = 10
    filters: (
        Annotated[Filter, PlainValidator(to_filter, json_schema_input_type=ComparisonFilter | CompoundFilter)] | None
    ) = None
    ranking_options: RankingOptions | None = None
    rewrite_query: Annotated[bool, Field(strict=True)] = False
