"""File batches of vector stores in OpenAI's shapes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.vector_stores.schemas import AttachmentCreate, ChunkingStrategy, FileCounts, NewAttributes
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
    """Either `file_ids`, all with the same `attributes` and `chunking_strategy`, or `files`, each with its own.

    A file that is named twice is attached once, as it is named last.
    """

    file_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_FILES_PER_BATCH)] | None = None
    files: Annotated[list[AttachmentCreate], Field(min_length=1, max_length=MAX_FILES_PER_BATCH)] | None = None
    attributes: NewAttributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    @model_validator(mode="after")
    def check_one_list(self) -> Self:
        if (self.file_ids is None) == (self.files is None):
            raise ValueError("give either file_ids or files")
        static = self.chunking_strategy is not None and self.chunking_strategy.type == "static"
        if self.files is not None and (self.attributes or static):
            raise ValueError("with files, attributes and chunking_strategy belong to each of them")
        return self

    def all_files(self) -> list[AttachmentCreate]:
        """The files, each with what it is attached with."""
        if self.files is not None:
            return self.files
        attributes, strategy = self.attributes, self.chunking_strategy
        return [
            AttachmentCreate(file_id=file_id, attributes=attributes, chunking_strategy=strategy)
            for file_id in self.file_ids or ()
        ]
