"""Store migrations, in shapes of Argosy's own."""

from typing import Literal

from pydantic import BaseModel, Field

from gateway.vector_stores.schemas import EmbeddingModelName, LastError
from gateway.web.schemas import Resource, StrictBody

StoreMigrationStatus = Literal["in_progress", "completed", "failed", "cancelled"]


class ChunkCounts(BaseModel):
    """Chunks of the store.

    `migrated` of `total` have a vector of the new model; of a store of more than 20,000 chunks, only those that the
    migration has made are counted. `embedded` vectors were paid for by the migration; `reused` ones are of texts that
    the tenant had embedded by this model before.
    """

    total: int
    migrated: int
    embedded: int
    reused: int


class StoreMigrationRead(Resource):
    """A change of a vector store to another embedding model.

    While it is `in_progress` searches use the old model, once it is `completed` the new one. `unused_vectors_deleted`
    turns true when the old vectors are gone, or, of a cancelled migration, the new ones.
    """

    object: Literal["vector_store.migration"] = "vector_store.migration"
    created_at: int
    finished_at: int | None = None
    vector_store_id: str
    embedding_model: str
    status: StoreMigrationStatus
    progress_percent: float = Field(ge=0, le=100)
    chunks: ChunkCounts
    unused_vectors_deleted: bool
    last_error: LastError | None = None


class StoreMigrationCreate(StrictBody):
    embedding_model: EmbeddingModelName
