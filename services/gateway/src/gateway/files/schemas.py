"""Files and vector stores as the edge shows them."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from .tenants import Listed, Page

PURPOSES = frozenset({"assistants", "batch", "evals", "fine-tune", "user_data", "vision"})


@dataclass(frozen=True, slots=True)
class File:
    """A stored file."""

    file_id: str
    filename: str
    purpose: str
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class VectorStore:
    """A set of indexed files, and how many of them are where."""

    vector_store_id: str
    name: str
    created_at: datetime
    usage_bytes: int
    in_progress: int
    completed: int
    failed: int


class AttachmentState(StrEnum):
    """How far indexing of a file is."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a vector store."""

    vector_store_id: str
    file_id: str
    state: AttachmentState
    failure_reason: str
    failure_message: str
    chunks: int
    created_at: datetime
    usage_bytes: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that a search found."""

    file_id: str
    filename: str
    page: int
    text: str
    score: float


class Knowledge(Protocol):
    """The door to retrieval; acts for the current caller. Another tenant's object is not found."""

    async def upload(self, filename: str, purpose: str, content: AsyncIterator[bytes]) -> File:
        """Store a file as its bytes come; what `content` raises is raised here and nothing is stored."""
        ...

    async def list_files(self, page: Page, purpose: str) -> Listed[File]:
        """Files of one purpose, or of any when it is empty."""
        ...

    async def get_file(self, file_id: str) -> File:
        """Raises FILE_NOT_FOUND."""
        ...

    def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes in order; close it to stop early. Raises FILE_NOT_FOUND at the first step."""
        ...

    async def delete_file(self, file_id: str) -> None:
        """Raises FILE_NOT_FOUND."""
        ...

    async def create_vector_store(self, name: str, file_ids: Sequence[str]) -> VectorStore:
        """Raises FILE_NOT_FOUND."""
        ...

    async def list_vector_stores(self, page: Page) -> Listed[VectorStore]:
        """Newest first."""
        ...

    async def get_vector_store(self, vector_store_id: str) -> VectorStore:
        """Raises VECTOR_STORE_NOT_FOUND."""
        ...

    async def delete_vector_store(self, vector_store_id: str) -> None:
        """Raises VECTOR_STORE_NOT_FOUND."""
        ...

    async def attach(self, vector_store_id: str, file_id: str) -> Attachment:
        """Put a file into a store; safe to repeat. Raises VECTOR_STORE_NOT_FOUND, FILE_NOT_FOUND."""
        ...

    async def get_attachment(self, vector_store_id: str, file_id: str) -> Attachment:
        """Raises VECTOR_STORE_NOT_FOUND, FILE_NOT_FOUND."""
        ...

    async def list_attachments(
        self, vector_store_id: str, page: Page, state: AttachmentState | None
    ) -> Listed[Attachment]:
        """Raises VECTOR_STORE_NOT_FOUND."""
        ...

    async def detach(self, vector_store_id: str, file_id: str) -> None:
        """Raises VECTOR_STORE_NOT_FOUND, FILE_NOT_FOUND."""
        ...

    async def search(self, vector_store_id: str, query: str, limit: int) -> Sequence[Passage]:
        """The best passages first. Raises VECTOR_STORE_NOT_FOUND."""
        ...
