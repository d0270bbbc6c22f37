"""What store migrations need from the database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from chassis.tenancy import Principal

from retrieval.files.page import Page
from retrieval.store_migrations.model import (
    ALL_FILES,
    ChunkPlace,
    MigrationClaim,
    MigrationKey,
    PlacedVector,
    StoredChunk,
    StoreMigration,
    Unsettled,
)


class StoreMigrations(Protocol):
    """Migrations as their tenants see them. Every method raises VectorStoreNotFound for an unknown store."""

    async def start(self, principal: Principal, vector_store_id: str, model: str, own_model: str) -> StoreMigration:
        """Start to migrate the store to the model; `own_model` is that of a store which names none.

        Returns the running migration to the same model if there is one, and continues the last one if it has failed.
        Raises StoreMigrationRunning, and InvalidRequest when the store has the model.
        """

    async def get(self, tenant_id: str, vector_store_id: str, migration_id: str) -> StoreMigration:
        """Raises StoreMigrationNotFound."""

    async def list(self, tenant_id: str, vector_store_id: str, *, limit: int, after: str) -> Page[StoreMigration]:
        """Newest first, after the id `after`; an empty string does not restrict."""

    async def cancel(self, tenant_id: str, vector_store_id: str, migration_id: str) -> StoreMigration:
        """Give the migration up, unless it is completed. Raises StoreMigrationNotFound."""


class MigrationRuns(Protocol):
    """State of running migrations. Methods that take a claim raise ClaimLost when it is not the latest one."""

    async def claim(self, key: MigrationKey, lease: timedelta) -> MigrationClaim | None:
        """None when the migration has no work, is not due, or is claimed by another process."""

    async def overdue(self, limit: int) -> Sequence[MigrationKey]:
        """Migrations with work that no process claimed in time; tenants take turns."""

    async def extend(self, claim: MigrationClaim, lease: timedelta) -> None:
        """Extend the lease (the heartbeat)."""

    async def chunks(self, claim: MigrationClaim, after: ChunkPlace, limit: int) -> Sequence[StoredChunk]:
        """The next chunks of the store, in the order of their places."""

    async def add_vectors(
        self, claim: MigrationClaim, vectors: Sequence[PlacedVector], reused: int, lease: timedelta
    ) -> None:
        """Store vectors of chunks that are still there, and extend the lease, in one transaction."""

    async def unsettled(self, claim: MigrationClaim) -> Unsettled:
        """The files whose chunks may change from now on; a pass that starts now sees all chunks of the others."""

    async def cut_over(self, claim: MigrationClaim, grace: timedelta, files: Unsettled = ALL_FILES) -> bool:
        """Change the store to the new space, in one transaction; False when a chunk of these files has no vector there.

        The caller has seen that all chunks of other files have one. Ingestion of the store waits meanwhile.
        The old space is retired: the migration is due again after `grace`, to delete its vectors.
        """

    async def delete_retired(self, claim: MigrationClaim, after: ChunkPlace, limit: int) -> ChunkPlace | None:
        """Delete the next vectors of the retired space; returns the last place, or None when none was left."""

    async def end_retirement(self, claim: MigrationClaim) -> None:
        """All vectors of the retired space are deleted."""

    async def fail(self, claim: MigrationClaim, reason: str, message: str) -> None:
        """Mark the migration as failed. Its vectors stay, for another start."""

    async def release(self, claim: MigrationClaim, delay: timedelta, *, failed: bool) -> None:
        """End the lease; the migration is due again after `delay`. `failed` counts a retry."""
