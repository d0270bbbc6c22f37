"""Store migrations in memory, on the tables of `fakes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chassis.errors import InvalidRequest
from chassis.ids import new_id
from chassis.tenancy import Principal
from retrieval.embeddings.model import EmbeddingSpace
from retrieval.files.page import Page
from retrieval.ingestion.model import ClaimLost, EmbeddedChunk
from retrieval.store_migrations.model import (
    ALL_FILES,
    ChunkPlace,
    MigrationClaim,
    MigrationKey,
    PlacedVector,
    StoredChunk,
    StoreMigration,
    StoreMigrationRunning,
    StoreMigrationState,
    Unsettled,
    store_migration_not_found,
)
from retrieval.vector_stores.model import AttachmentState, VectorStoreNotFound

from services.retrieval.tests.fakes import InMemoryDatabase, Row, Store


@dataclass
class MigrationRow:
    """A row of `store_migrations`."""

    key: MigrationKey
    principal: Principal
    space: EmbeddingSpace
    created_at: datetime
    due_at: datetime
    state: StoreMigrationState = StoreMigrationState.IN_PROGRESS
    retired_space: int | None = None
    reason: str = ""
    message: str = ""
    embedded: int = 0
    reused: int = 0
    epoch: int = 0
    crashes: int = 0
    retries: int = 0
    finished_at: datetime | None = None

    @property
    def claimable(self) -> bool:
        return self.state is StoreMigrationState.IN_PROGRESS or self.retired_space is not None


class FakeStoreMigrations:
    """Implements StoreMigrations and MigrationRuns."""

    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database
        self._rows: dict[MigrationKey, MigrationRow] = {}

    async def start(self, principal: Principal, vector_store_id: str, model: str, own_model: str) -> StoreMigration:
        store = self._store(principal.tenant_id, vector_store_id)
        of_store = [row for row in self._rows.values() if row.key.vector_store_id == vector_store_id]
        running = next((row for row in of_store if row.state is StoreMigrationState.IN_PROGRESS), None)
        if running is not None:
            if running.space.model != model:
                raise StoreMigrationRunning("the vector store is being migrated")
            return self._to_migration(running)
        if (store.space.model or own_model) == model:
            raise InvalidRequest("the vector store has this embedding model", param="embedding_model")
        failed = next((row for row in of_store if row.state is StoreMigrationState.FAILED), None)
        if failed is not None and failed.space.model == model:
            failed.state, failed.reason, failed.message = StoreMigrationState.IN_PROGRESS, "", ""
            failed.due_at, failed.finished_at, failed.crashes, failed.retries = self._now(), None, 0, 0
            row = failed
        else:
            if failed is not None:
                self._cancel(failed)
            key = MigrationKey(principal.tenant_id, vector_store_id, new_id("vsm_"))
            space = EmbeddingSpace(model, 2 + len(self._rows))
            row = self._rows[key] = MigrationRow(key, principal, space, self._now(), self._now())
        store.next_space = row.space
        return self._to_migration(row)

    async def get(self, tenant_id: str, vector_store_id: str, migration_id: str) -> StoreMigration:
        self._store(tenant_id, vector_store_id)
        return self._to_migration(self._row(tenant_id, vector_store_id, migration_id))

    async def list(self, tenant_id: str, vector_store_id: str, *, limit: int, after: str) -> Page[StoreMigration]:
        self._store(tenant_id, vector_store_id)
        keys = [key for key in self._rows if (key.tenant_id, key.vector_store_id) == (tenant_id, vector_store_id)]
        ids = sorted((key.migration_id for key in keys if not after or key.migration_id < after), reverse=True)
        found = [await self.get(tenant_id, vector_store_id, migration_id) for migration_id in ids[:limit]]
        return Page(tuple(found), len(ids) > limit)

    async def cancel(self, tenant_id: str, vector_store_id: str, migration_id: str) -> StoreMigration:
        store = self._store(tenant_id, vector_store_id)
        row = self._row(tenant_id, vector_store_id, migration_id)
        if row.state is StoreMigrationState.IN_PROGRESS:
            store.next_space = None
        if row.state in {StoreMigrationState.IN_PROGRESS, StoreMigrationState.FAILED}:
            self._cancel(row)
        return self._to_migration(row)

    async def claim(self, key: MigrationKey, lease: timedelta) -> MigrationClaim | None:
        row = self._rows.get(key)
        if row is None or not row.claimable or row.due_at > self._now():
            return None
        row.epoch += 1
        row.crashes += 1
        row.due_at = self._now() + lease
        principal = replace(row.principal, roles=frozenset({"service"}))
        return MigrationClaim(key, row.epoch, row.space, row.retired_space, principal, row.crashes - 1, row.retries)

    async def overdue(self, limit: int) -> Sequence[MigrationKey]:
        due = [row for row in self._rows.values() if row.claimable and row.due_at <= self._now()]
        return [row.key for row in sorted(due, key=lambda row: row.due_at)][:limit]

    async def extend(self, claim: MigrationClaim, lease: timedelta) -> None:
        self._fenced(claim).due_at = self._now() + lease

    async def chunks(self, claim: MigrationClaim, after: ChunkPlace, limit: int) -> Sequence[StoredChunk]:
        found = []
        for row, item in self._stored(claim.key):
            place = ChunkPlace(row.number, item.chunk.ordinal)
            if place > after:
                missing = self._place(claim, place) not in self._database.vectors
                found.append(StoredChunk(place, item.chunk.text, missing))
        return sorted(found, key=lambda chunk: chunk.place)[:limit]

    async def add_vectors(
        self, claim: MigrationClaim, vectors: Sequence[PlacedVector], reused: int, lease: timedelta
    ) -> None:
        row = self._fenced(claim)
        row.embedded, row.reused = row.embedded + len(vectors) - reused, row.reused + reused
        row.due_at, row.crashes, row.retries = self._now() + lease, 0, 0
        there = {stored.number for stored, _ in self._stored(claim.key)}
        for item in vectors:
            if item.place.attachment in there:
                self._database.vectors[self._place(claim, item.place)] = item.vector

    async def unsettled(self, claim: MigrationClaim) -> Unsettled:
        rows = [row for row in self._database.rows.values() if row.key.vector_store_id == claim.key.vector_store_id]
        in_progress = (row.number for row in rows if row.state is AttachmentState.IN_PROGRESS)
        return Unsettled(tuple(in_progress), max((row.number for row in rows), default=0))

    async def cut_over(self, claim: MigrationClaim, grace: timedelta, files: Unsettled = ALL_FILES) -> bool:
        row = self._fenced(claim)
        for stored, item in self._stored(claim.key):
            counts = stored.number > files.after or stored.number in files.in_progress
            if (
                counts
                and self._place(claim, ChunkPlace(stored.number, item.chunk.ordinal)) not in self._database.vectors
            ):
                return False
        store = self._store(claim.key.tenant_id, claim.key.vector_store_id)
        row.state, row.retired_space = StoreMigrationState.COMPLETED, store.space.number
        row.finished_at, row.due_at, row.crashes, row.retries = self._now(), self._now() + grace, 0, 0
        store.space, store.next_space = claim.space, None
        return True

    async def delete_retired(self, claim: MigrationClaim, after: ChunkPlace, limit: int) -> ChunkPlace | None:
        row = self._fenced(claim)
        row.crashes = row.retries = 0
        of_space = (claim.key.vector_store_id, claim.retired_space)
        places = sorted(ChunkPlace(*key[2:]) for key in self._database.vectors if key[:2] == of_space)
        if not claim.retired_space:  # the vectors stand in the chunks
            places = sorted(ChunkPlace(one.number, item.chunk.ordinal) for one, item in self._stored(claim.key))
        places = [place for place in places if place > after][:limit]
        for place in places:
            self._database.vectors.pop((claim.key.vector_store_id, row.retired_space or 0, *place), None)
        return places[-1] if places else None

    async def end_retirement(self, claim: MigrationClaim) -> None:
        self._fenced(claim).retired_space = None

    async def fail(self, claim: MigrationClaim, reason: str, message: str) -> None:
        row = self._fenced(claim)
        row.state, row.reason, row.message = StoreMigrationState.FAILED, reason, message
        row.finished_at = self._now()
        self._store(claim.key.tenant_id, claim.key.vector_store_id).next_space = None

    async def release(self, claim: MigrationClaim, delay: timedelta, *, failed: bool) -> None:
        row = self._fenced(claim)
        row.due_at = self._now() + delay
        row.crashes = max(row.crashes - 1, 0)
        row.retries += failed

    def _now(self) -> datetime:
        return self._database.clock.now()

    def _store(self, tenant_id: str, vector_store_id: str) -> Store:
        if (tenant_id, vector_store_id) not in self._database.stores:
            raise VectorStoreNotFound(f"there is no vector store {vector_store_id!r}", param="vector_store_id")
        return self._database.stores[tenant_id, vector_store_id]

    def _row(self, tenant_id: str, vector_store_id: str, migration_id: str) -> MigrationRow:
        row = self._rows.get(MigrationKey(tenant_id, vector_store_id, migration_id))
        if row is None:
            raise store_migration_not_found(migration_id)
        return row

    def _cancel(self, row: MigrationRow) -> None:
        row.state, row.retired_space = StoreMigrationState.CANCELLED, row.space.number
        row.finished_at, row.due_at, row.epoch = self._now(), self._now(), row.epoch + 1
        row.crashes = row.retries = 0
        row.reason = row.message = ""

    def _stored(self, key: MigrationKey) -> Iterator[tuple[Row, EmbeddedChunk]]:
        for row in self._database.rows.values():
            of_store = (row.key.tenant_id, row.key.vector_store_id) == (key.tenant_id, key.vector_store_id)
            if of_store and row.state is not AttachmentState.FAILED:
                yield from ((row, item) for item in row.stored)

    def _place(self, claim: MigrationClaim, place: ChunkPlace) -> tuple[str, int, int, int]:
        return (claim.key.vector_store_id, claim.space.number, *place)

    def _fenced(self, claim: MigrationClaim) -> MigrationRow:
        row = self._rows.get(claim.key)
        store = (claim.key.tenant_id, claim.key.vector_store_id)
        if row is None or row.epoch != claim.epoch or not row.claimable or store not in self._database.stores:
            raise ClaimLost
        return row

    def _to_migration(self, row: MigrationRow) -> StoreMigration:
        stored = list(self._stored(row.key))
        places = [(row.key.vector_store_id, row.space.number, one.number, item.chunk.ordinal) for one, item in stored]
        migrated = sum(place in self._database.vectors for place in places)
        completed = row.state is StoreMigrationState.COMPLETED
        return StoreMigration(
            migration_id=row.key.migration_id,
            vector_store_id=row.key.vector_store_id,
            embedding_model=row.space.model,
            state=row.state,
            chunks=len(stored),
            migrated_chunks=len(stored) if completed else migrated,
            embedded_chunks=row.embedded,
            reused_chunks=row.reused,
            unused_vectors_deleted=row.retired_space is None
            and row.state in {StoreMigrationState.COMPLETED, StoreMigrationState.CANCELLED},
            failure_reason=row.reason,
            failure_message=row.message,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )
