"""File batches of vector stores in OpenAI's shapes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.vector_stores.schemas import AttachmentCreate, AutoChunking, FileCounts
from gateway.web.schemas import Id, Resource, StrictBody

MAX_FILES_PER_BATCH = 500


class FileBatchRead(Resource):
    """Files that were put into a vector store together.

    `file_counts` are those of the files' present states; `cancelled` counts files that are no longer in the store.
    """

    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled"]
    file_counts: FileCounts


class FileBatchCreate(StrictBody):
    """Either `file_ids`, or `files`. A file that is named twice is attached once."""

    file_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_FILES_PER_BATCH)] | None = None
    files: Annotated[list[AttachmentCreate], Field(min_length=1, max_length=MAX_FILES_PER_BATCH)] | None = None
    attributes: Annotated[dict[str, str | float | bool], Field(max_length=0)] | None = None
    chunking_strategy: AutoChunking | None = None

    @model_validator(mode="after")
    def check_one_list(self) -> Self:
        if (self.file_ids is None) == (self.files is None):
            raise ValueError("give either file_ids or files")
        return self

    def all_file_ids(self) -> list[str]:
        return self.file_ids or [file.file_id for file in self.files or ()]
