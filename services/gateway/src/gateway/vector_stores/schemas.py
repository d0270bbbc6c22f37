"""Objects in OpenAI's shapes, as the SDKs read them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.domain.inference import Model, Task
from gateway.domain.knowledge import Attachment, AttachmentState, File, Passage, VectorStore

T = TypeVar("T", bound="Identified")

# Ids are opaque; what cannot be one is refused before it travels.
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
# Something to read, and nothing that moves a terminal's cursor.
Name = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]
PAGE_KEY = "page"


def in_utc(instant: datetime) -> datetime:
    """Read an instant as everybody behind the gateway will. Raises ValueError when UTC's calendar does not reach it."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC the year must be between 1 and 9999") from None


def one_or_many(given: Any) -> Any:
    """A text alone is a list of one."""
    return [given] if isinstance(given, str) else given


Moment = Annotated[AwareDatetime, AfterValidator(in_utc)]


class Identified(BaseModel):
    """Anything in a list."""

    id: str


class ListOf(BaseModel, Generic[T]):
    """A page of a list, newest first."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False

    @classmethod
    def of(cls, items: Iterable[T], *, has_more: bool = False) -> Self:
        """Make a page of what it holds."""
        data = list(items)
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first_id, last_id=last_id, has_more=has_more)


class Deleted(BaseModel):
    """Something is gone."""

    id: str
    object: str
    deleted: Literal[True] = True


class ModelRead(Identified):
    """A model."""

    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["argosy"] = "argosy"
    task: Task | None = None

    @classmethod
    def of(cls, model: Model) -> Self:
        """Show a model."""
        return cls(id=model.name, created=int(model.created_at.timestamp()), task=model.task)


class FileRead(Identified):
    """A stored file."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: str | None = None

    @classmethod
    def of(cls, file: File) -> Self:
        """Show a file."""
        return cls(
            id=file.file_id,
            bytes=file.size_bytes,
            created_at=int(file.created_at.timestamp()),
            filename=file.filename,
            purpose=file.purpose,
        )


class FileCounts(BaseModel):
    """How many attached files are where."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int = 0
    total: int


class VectorStoreRead(Identified):
    """A vector store."""

    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["in_progress", "completed"]
    expires_after: None = None
    expires_at: int | None = None
    last_active_at: int | None = None
    metadata: dict[str, str] = {}

    @classmethod
    def of(cls, store: VectorStore) -> Self:
        """Show a vector store."""
        created_at = int(store.created_at.timestamp())
        total = store.in_progress + store.completed + store.failed
        return cls(
            id=store.vector_store_id,
            created_at=created_at,
            name=store.name,
            usage_bytes=store.usage_bytes,
            file_counts=FileCounts(
                in_progress=store.in_progress, completed=store.completed, failed=store.failed, total=total
            ),
            status="in_progress" if store.in_progress else "completed",
            last_active_at=created_at,
        )


class LastError(BaseModel):
    """Why a file was refused; `code` is stable and documented."""

    code: str
    message: str


class AttachmentRead(Identified):
    """A file in a vector store."""

    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    vector_store_id: str
    status: AttachmentState
    last_error: LastError | None = None
    usage_bytes: int
    attributes: dict[str, str | float | bool] = {}
    chunking_strategy: dict[str, Any] = {"type": "other"}

    @classmethod
    def of(cls, attachment: Attachment) -> Self:
        """Show an attachment."""
        failed = attachment.state is AttachmentState.FAILED
        return cls(
            id=attachment.file_id,
            created_at=int(attachment.created_at.timestamp()),
            vector_store_id=attachment.vector_store_id,
            status=attachment.state,
            last_error=LastError(code=attachment.failure_reason.lower(), message=attachment.failure_message)
            if failed
            else None,
            usage_bytes=attachment.usage_bytes,
        )


class Text(BaseModel):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class PassageRead(BaseModel):
    """A passage found; its page, where the format has pages, is among the attributes."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | float | bool]
    content: list[Text]

    @classmethod
    def of(cls, passage: Passage) -> Self:
        """Show a passage."""
        return cls(
            file_id=passage.file_id,
            filename=passage.filename,
            score=passage.score,
            attributes={PAGE_KEY: passage.page} if passage.page else {},
            content=[Text(text=passage.text)],
        )


class SearchPage(BaseModel):
    """What a search found, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[PassageRead]
    has_more: Literal[False] = False
    next_page: None = None


class VectorStoreCreate(BaseModel):
    """A vector store to make. What cannot be kept is refused rather than forgotten."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    file_ids: Annotated[list[Id], Field(max_length=500)] = []
    metadata: Annotated[dict[str, str], Field(max_length=0)] | None = None
    chunking_strategy: "AutoChunking | None" = None


class AutoChunking(BaseModel):
    """How files are cut: as the installation does it."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["auto"]


class AttachmentCreate(BaseModel):
    """A file to put into a vector store."""

    model_config = ConfigDict(extra="forbid")

    file_id: Id
    attributes: Annotated[dict[str, str | float | bool], Field(max_length=0)] | None = None
    chunking_strategy: AutoChunking | None = None


class RankingOptions(BaseModel):
    """How to rank: by reciprocal rank fusion, whose scores have no threshold that would mean anything."""

    model_config = ConfigDict(extra="forbid")

    ranker: str | None = None
    score_threshold: Annotated[float, Field(ge=0, le=0)] | None = None


class SearchCreate(BaseModel):
    """A question to a vector store."""

    model_config = ConfigDict(extra="forbid")

    # Not a union of types: its errors would be named after the types.
    query: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        Field(min_length=1, max_length=8),
        BeforeValidator(one_or_many, json_schema_input_type=str | list[str]),
    ]
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: bool = False
