"""Vector stores: sets of indexed files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from chassis.errors import ArgosyError, InvalidRequest, Kind
from values.attributes import Attributes

from retrieval.chunking.splitter import Chunking
from retrieval.files.model import FileNotFound
from retrieval.parsing.model import FileWarning

# Kafka topic of files that were attached and wait for ingestion.
FILE_ATTACHED_TOPIC = "argosy.retrieval.file-attached.v1"
MODEL = "embedding_model"


class VectorStoreNotFound(ArgosyError):
    """The tenant has no vector store with this id."""

    kind, reason = Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND"


class VectorStoreExpired(ArgosyError):
    """The vector store has expired: it was not used for the days that it was made for, and its content is deleted."""

    kind, reason = Kind.EXPIRED, "VECTOR_STORE_EXPIRED"


class AttachmentState(StrEnum):
    """State of ingestion."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Attached files by state."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class VectorStore:
    """A set of indexed files; `usage_bytes` is text and vectors.

    `last_active_at` is when it was searched or filled, to a minute. It expires `expires_after` that, or never. An empty
    `embedding_model` is the service's own.
    """

    vector_store_id: str
    name: str
    created_at: datetime
    file_counts: FileCounts
    usage_bytes: int
    last_active_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires_after: timedelta | None = None
    expired: bool = False
    embedding_model: str = ""


@dataclass(frozen=True, slots=True)
class StoreChanges:
    """Changes of a store; None leaves a field as it is. `expires_after` of no time is never."""

    name: str | None = None
    metadata: Mapping[str, str] | None = None
    expires_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingModels:
    """The models that vector stores may have: their dimensions, the service's own first, and that of new stores."""

    dimensions: Mapping[str, int]
    of_new_stores: str

    @property
    def own(self) -> str:
        return next(iter(self.dimensions))

    def checked(self, name: str) -> str:
        """The name; that of new stores for an empty one. Raises InvalidRequest for a model that stores may not have."""
        if not name:
            return self.of_new_stores
        if name not in self.dimensions:
            known = ", ".join(sorted(self.dimensions))
            raise InvalidRequest(f"{name!r} is no embedding model of vector stores; there are: {known}", param=MODEL)
        return name


@dataclass(frozen=True, slots=True)
class AttachmentKey:
    """A file in a vector store."""

    tenant_id: str
    vector_store_id: str
    file_id: str

    @property
    def turn(self) -> str:
        """Files of a tenant wait for one another."""
        return self.tenant_id


@dataclass(frozen=True, slots=True)
class FileToAttach:
    """A file for a vector store. Without `attributes`, a file that is in the store keeps those that it has.

    `chunking` is for a file that is not, or that could not be indexed.
    """

    file_id: str
    attributes: Attributes | None = None
    chunking: Chunking | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a vector store. `chunks` are stored; searches find them once the state is completed.

    `warnings` tell what of a completed file is not searchable, `attributes` are for filters of searches. How a file is
    split is not known of one that was attached by an older version.
    """

    vector_store_id: str
    file_id: str
    state: AttachmentState
    failure_reason: str
    failure_message: str
    chunks: int
    usage_bytes: int
    created_at: datetime
    warnings: tuple[FileWarning, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    chunking: Chunking | None = None


def vector_store_not_found(vector_store_id: str) -> VectorStoreNotFound:
    """The same message for a store that never existed, was deleted, or belongs to another tenant."""
    return VectorStoreNotFound(f"there is no vector store {vector_store_id!r}", param="vector_store_id")


def vector_store_expired(vector_store_id: str) -> VectorStoreExpired:
    message = f"vector store {vector_store_id!r} has expired, and its content is deleted"
    return VectorStoreExpired(message, param="vector_store_id")


def not_attached(vector_store_id: str, file_id: str, param: str = "file_id") -> FileNotFound:
    return FileNotFound(f"vector store {vector_store_id!r} does not hold file {file_id!r}", param=param)
