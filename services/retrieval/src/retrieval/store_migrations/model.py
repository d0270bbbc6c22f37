"""Store migrations: a vector store changes to another embedding model.

The vectors of the new model are made beside the old ones, in a space of their own. When every chunk has one, the store
changes to that space in one transaction, and the old vectors are deleted after the last search that may read them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from chassis.errors import ArgosyError, Kind
from chassis.tenancy import Principal

from retrieval.embeddings.model import EmbeddingSpace
from retrieval.ingestion.model import TextVector

# A search that has read the space of its store reads its vectors within some statements, each of which has a time-out.
SEARCH_GRACE = timedelta(seconds=60)


class StoreMigrationNotFound(ArgosyError):
    """The vector store has no migration with this id."""

    kind, reason = Kind.NOT_FOUND, "STORE_MIGRATION_NOT_FOUND"


class StoreMigrationRunning(ArgosyError):
    """The vector store is being migrated to another model; cancel that migration, or wait for its end."""

    kind, reason = Kind.CONFLICT, "STORE_MIGRATION_RUNNING"


class StoreMigrationState(StrEnum):
    """What a migration has come to."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class StoreMigration:
    """A migration. `migrated_chunks` of the store's `chunks` have a vector of the new model.

    `embedded_chunks` are the vectors that it has paid for, `reused_chunks` those that the tenant had of equal texts.
    """

    migration_id: str
    vector_store_id: str
    embedding_model: str
    state: StoreMigrationState
    chunks: int
    migrated_chunks: int
    embedded_chunks: int
    reused_chunks: int
    unused_vectors_deleted: bool
    failure_reason: str
    failure_message: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class MigrationKey:
    """A migration of a vector store."""

    tenant_id: str
    vector_store_id: str
    migration_id: str

    @property
    def turn(self) -> str:
        """A migration takes turns with the files of its tenant: behind all of them, it might never end."""
        return f"{self.tenant_id} migrations"


@dataclass(frozen=True, slots=True)
class MigrationClaim:
    """The right to work on a migration, for a lease.

    Its work is to make the vectors of `space`, or, with a `retired_space`, to delete the vectors of that one. `crashes`
    and `retries` count since the last stored batch, without this claim. The principal pays.
    """

    key: MigrationKey
    epoch: int
    space: EmbeddingSpace
    retired_space: int | None
    principal: Principal
    crashes: int
    retries: int


class ChunkPlace(NamedTuple):
    """Where a chunk of a store is; chunks are migrated in this order."""

    attachment: int
    ordinal: int


BEFORE_ALL = ChunkPlace(0, -1)


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk of the store. `missing` when it needs a vector in the new space: it has none, and its file is there."""

    place: ChunkPlace
    text: str
    missing: bool


@dataclass(frozen=True, slots=True)
class PlacedVector:
    """The vector of a chunk in the new space."""

    place: ChunkPlace
    vector: TextVector


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Files of a store whose chunks may change after a moment: those that were being indexed, and all with a number
    above `after`."""

    in_progress: tuple[int, ...] = ()
    after: int = 0


ALL_FILES = Unsettled()


def store_migration_not_found(migration_id: str) -> StoreMigrationNotFound:
    """The same message for a migration that never existed, or belongs to another store or tenant."""
    return StoreMigrationNotFound(f"there is no migration {migration_id!r} of this vector store", param="migration_id")
