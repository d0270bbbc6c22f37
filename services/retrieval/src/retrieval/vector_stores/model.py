"""Vector stores: sets of indexed files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from chassis.errors import ArgosyError, InvalidRequest, Kind
from chassis.tenancy import Principal

from retrieval.domain.listing import Listing

MOST_FILES_AT_ONCE = 500
MOST_NAME_CHARACTERS = 256


class VectorStoreNotFound(ArgosyError):
    """The tenant has no vector store with this id."""

    kind, reason = Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND"


class AttachmentState(StrEnum):
    """How far indexing of an attached file is."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many attached files are in which state."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class VectorStore:
    """A set of indexed files; `usage_bytes` is text and vectors."""

    vector_store_id: str
    name: str
    created_at: datetime
    file_counts: FileCounts
    usage_bytes: int


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a vector store. `chunks` counts what is indexed; all of it can be found once completed."""

    vector_store_id: str
    file_id: str
    state: AttachmentState
    failure_reason: str
    failure_message: str
    chunks: int
    usage_bytes: int
    created_at: datetime


class VectorStores(Protocol):
    """Vector stores and what is attached to them. Every method raises VectorStoreNotFound for an unknown store."""

    async def create(self, principal: Principal, name: str, file_ids: Sequence[str]) -> VectorStore:
        """Make a store with these files attached, or nothing. Raises FileNotFound."""

    async def get(self, tenant_id: str, vector_store_id: str) -> VectorStore:
        """The store with its counts."""

    async def list(self, tenant_id: str, *, limit: int, after: str) -> Listing[VectorStore]:
        """Newest first, after the id `after`; an empty string does not restrict."""

    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        """Forget the store at once; its chunks are removed soon, its files stay."""

    async def attach(self, principal: Principal, vector_store_id: str, file_id: str) -> Attachment:
        """Attach and announce it in one transaction; a repeat changes nothing, unless indexing had failed.

        Raises FileNotFound.
        """

    async def attachment(self, tenant_id: str, vector_store_id: str, file_id: str) -> Attachment:
        """Raises FileNotFound when the file is not in the store."""

    async def attachments(
        self, tenant_id: str, vector_store_id: str, *, limit: int, after: str, state: AttachmentState | None
    ) -> Listing[Attachment]:
        """Newest first, after the file id `after`. Raises FileNotFound when `after` is not in the store."""

    async def detach(self, tenant_id: str, vector_store_id: str, file_id: str) -> None:
        """Take a file out. Raises FileNotFound when it is not in the store."""


async def create_vector_store(
    principal: Principal, name: str, file_ids: Sequence[str], *, stores: VectorStores
) -> VectorStore:
    """Make a store with some files. Raises InvalidRequest, FileNotFound."""
    if len(name) > MOST_NAME_CHARACTERS or "\0" in name:
        raise InvalidRequest(f"name may have at most {MOST_NAME_CHARACTERS} characters", param="name")
    distinct = tuple(dict.fromkeys(file_ids))
    if len(distinct) > MOST_FILES_AT_ONCE:
        raise InvalidRequest(f"at most {MOST_FILES_AT_ONCE} files at once", param="file_ids")
    return await stores.create(principal, name, distinct)
