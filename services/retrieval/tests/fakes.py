"""Retrieval in memory. The contract suite runs on these fakes and on Postgres."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from chassis.ids import new_id
from chassis.tenancy import Principal
from chassis.testing import FakeClock
from retrieval.chunking.splitter import OWN_CHUNKING, Chunking
from retrieval.deletions.delete import PendingDeletion
from retrieval.embeddings.model import DIMENSIONS, FIRST_SPACE, EmbeddingSpace, Vector
from retrieval.files.model import File, FileNotFound
from retrieval.files.page import Page
from retrieval.ingestion.model import Claim, ClaimLost, EmbeddedChunk, SpacesChanged, TextVector, vectors_by_space
from retrieval.parsing.model import FileWarning
from retrieval.quotas.model import UNLIMITED, Quota, check_quota
from retrieval.vector_stores.model import (
    Attachment,
    AttachmentKey,
    AttachmentState,
    FileCounts,
    StoreChanges,
    VectorStore,
    VectorStoreNotFound,
    vector_store_expired,
)
from retrieval.vector_stores.ports import NOTHING
from values.attributes import Attributes, Filter

from services.retrieval.tests.fake_filters import fits


@dataclass
class Row:
    """A row of `attachments` with its chunks."""

    principal: Principal
    key: AttachmentKey
    number: int
    created_at: datetime
    due_at: datetime
    state: AttachmentState = AttachmentState.IN_PROGRESS
    reason: str = ""
    message: str = ""
    warnings: tuple[FileWarning, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    chunking: Chunking = OWN_CHUNKING
    epoch: int = 0
    crashes: int = 0
    retries: int = 0
    indexed_chunks: int = 0
    stored: list[EmbeddedChunk] = field(default_factory=list)


@dataclass
class Store:
    """A row of `vector_stores`."""

    name: str
    created_at: datetime
    last_active_at: datetime
    metadata: Mapping[str, str]
    expires_after: timedelta | None
    space: EmbeddingSpace = FIRST_SPACE
    next_space: EmbeddingSpace | None = None
    emptied: bool = False

    def expired(self, now: datetime) -> bool:
        return self.emptied or (self.expires_after is not None and self.last_active_at + self.expires_after <= now)


@dataclass
class Batch:
    """A row of `file_batches` with its members: the attachment that the batch made, or None, by file."""

    created_at: datetime
    members: dict[str, int | None] = field(default_factory=dict)
    cancelled: bool = False


@dataclass
class InMemoryDatabase:
    """The tables."""

    clock: FakeClock = field(default_factory=FakeClock)
    files: dict[tuple[str, str], File] = field(default_factory=dict)
    stores: dict[tuple[str, str], Store] = field(default_factory=dict)
    rows: dict[AttachmentKey, Row] = field(default_factory=dict)
    deletions: dict[tuple[str, str], tuple[PendingDeletion, datetime]] = field(default_factory=dict)
    published: list[AttachmentKey] = field(default_factory=list)
    numbers: int = 0
    batches: dict[tuple[str, str, str], Batch] = field(default_factory=dict)
    # Of spaces other than the first one, by store, space, attachment and ordinal.
    vectors: dict[tuple[str, int, int, int], TextVector] = field(default_factory=dict)

    def use(self, tenant_id: str, vector_store_id: str) -> None:
        """Raises VectorStoreExpired."""
        store = self.stores[tenant_id, vector_store_id]
        if store.expired(self.clock.now()):
            raise vector_store_expired(vector_store_id)
        store.last_active_at = self.clock.now()

    def schedule_deletion(self, row: Row) -> None:
        """Schedule the deletion of its chunks."""
        deletion = PendingDeletion(
            tenant_id=row.key.tenant_id,
            deletion_id=f"attachment-{row.number}",
            epoch=0,
            vector_store_id=row.key.vector_store_id,
            attachment=row.number,
        )
        self.deletions[row.key.tenant_id, deletion.deletion_id] = (deletion, self.clock.now())

    def completed(self, tenant_id: str, vector_store_ids: Sequence[str], filters: Filter | None = None) -> list[Row]:
        """Attachments whose chunks searches find."""
        return [
            row
            for key, row in self.rows.items()
            if key.tenant_id == tenant_id
            and key.vector_store_id in vector_store_ids
            and row.state is AttachmentState.COMPLETED
            and fits(filters, row.attributes)
        ]


class FakeVectorStores:
    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database

    async def create(
        self,
        principal: Principal,
        name: str,
        file_ids: Sequence[str],
        *,
        space: EmbeddingSpace = FIRST_SPACE,
        chunking: Chunking | None = None,
        metadata: Mapping[str, str] = NOTHING,
        expires_after: timedelta | None = None,
        quota: Quota = UNLIMITED,
    ) -> VectorStore:
        stores = sum(owner == principal.tenant_id for owner, _ in self._database.stores)
        check_quota("vector_stores", quota.vector_stores, stores, 1)
        for file_id in file_ids:
            self._file(principal.tenant_id, file_id)
        vector_store_id = new_id("vs_")
        now = self._database.clock.now()
        self._database.stores[principal.tenant_id, vector_store_id] = Store(
            name, now, now, metadata, expires_after, space
        )
        for file_id in file_ids:
            await self.attach(principal, vector_store_id, file_id, chunking=chunking)
        return await self.get(principal.tenant_id, vector_store_id)

    async def get(self, tenant_id: str, vector_store_id: str) -> VectorStore:
        if (tenant_id, vector_store_id) not in self._database.stores:
            raise VectorStoreNotFound(f"there is no vector store {vector_store_id!r}", param="vector_store_id")
        store = self._database.stores[tenant_id, vector_store_id]
        rows = self._rows(tenant_id, vector_store_id)
        states = Counter(row.state for row in rows)
        counts = FileCounts(*(states[state] for state in AttachmentState))
        used, now = sum(usage_bytes(row) for row in rows), self._database.clock.now()
        in_use = (store.last_active_at, store.metadata, store.expires_after, store.expired(now))
        return VectorStore(vector_store_id, store.name, store.created_at, counts, used, *in_use, store.space.model)

    async def update(self, tenant_id: str, vector_store_id: str, changes: StoreChanges) -> VectorStore:
        before = await self.get(tenant_id, vector_store_id)
        store = self._database.stores[tenant_id, vector_store_id]
        if changes.expires_after is not None:
            if before.expired:
                raise vector_store_expired(vector_store_id)
            store.expires_after = changes.expires_after or None
        store.name = store.name if changes.name is None else changes.name
        store.metadata = store.metadata if changes.metadata is None else changes.metadata
        return await self.get(tenant_id, vector_store_id)

    async def expire(self, limit: int) -> int:
        now, stores = self._database.clock.now(), self._database.stores
        expired = [key for key, store in stores.items() if store.expired(now) and not store.emptied][:limit]
        for key in expired:
            stores[key].emptied = True
            for row in self._rows(*key):
                self._database.schedule_deletion(self._database.rows.pop(row.key))
        return len(expired)

    async def list(self, tenant_id: str, *, limit: int, after: str) -> Page[VectorStore]:
        ids = [store for owner, store in self._database.stores if owner == tenant_id and (not after or store < after)]
        ids.sort(reverse=True)
        return Page(tuple([await self.get(tenant_id, store) for store in ids[:limit]]), len(ids) > limit)

    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        await self.get(tenant_id, vector_store_id)
        for row in self._rows(tenant_id, vector_store_id):
            self._database.schedule_deletion(self._database.rows.pop(row.key))
        del self._database.stores[tenant_id, vector_store_id]
        for key in [key for key in self._database.batches if key[:2] == (tenant_id, vector_store_id)]:
            del self._database.batches[key]

    async def attach(
        self,
        principal: Principal,
        vector_store_id: str,
        file_id: str,
        *,
        attributes: Attributes | None = None,
        chunking: Chunking | None = None,
    ) -> Attachment:
        await self.get(principal.tenant_id, vector_store_id)
        self._database.use(principal.tenant_id, vector_store_id)
        self._file(principal.tenant_id, file_id)
        key = AttachmentKey(principal.tenant_id, vector_store_id, file_id)
        row = self._database.rows.get(key)
        if row is None or row.state is AttachmentState.FAILED:
            now = self._database.clock.now()
            self._database.numbers += 1
            before = {} if row is None else row.attributes
            split = chunking or (OWN_CHUNKING if row is None else row.chunking)
            row = Row(principal, key, self._database.numbers, now, now, attributes=before, chunking=split)
            self._database.rows[key] = row
            self._database.published.append(key)
        if attributes is not None:
            row.attributes = attributes
        return await self.attachment(principal.tenant_id, vector_store_id, file_id)

    async def attachment(self, tenant_id: str, vector_store_id: str, file_id: str) -> Attachment:
        await self.get(tenant_id, vector_store_id)
        return to_attachment(self._row(tenant_id, vector_store_id, file_id))

    async def attachments(
        self, tenant_id: str, vector_store_id: str, *, limit: int, after: str, state: AttachmentState | None
    ) -> Page[Attachment]:
        await self.get(tenant_id, vector_store_id)
        before = self._row(tenant_id, vector_store_id, after).number if after else math.inf
        found = (row for row in self._rows(tenant_id, vector_store_id) if row.number < before)
        rows = sorted((row for row in found if state in {None, row.state}), key=lambda row: -row.number)
        return Page(tuple(to_attachment(row) for row in rows[:limit]), len(rows) > limit)

    async def update_attachment(
        self, tenant_id: str, vector_store_id: str, file_id: str, attributes: Attributes
    ) -> Attachment:
        await self.get(tenant_id, vector_store_id)
        row = self._row(tenant_id, vector_store_id, file_id)
        row.attributes = attributes
        return to_attachment(row)

    async def detach(self, tenant_id: str, vector_store_id: str, file_id: str) -> None:
        await self.get(tenant_id, vector_store_id)
        row = self._row(tenant_id, vector_store_id, file_id)
        self._database.schedule_deletion(self._database.rows.pop(row.key))

    def _file(self, tenant_id: str, file_id: str) -> None:
        if (tenant_id, file_id) not in self._database.files:
            raise FileNotFound(f"there is no file {file_id!r}", param="file_id")

    def _row(self, tenant_id: str, vector_store_id: str, file_id: str) -> Row:
        row = self._database.rows.get(AttachmentKey(tenant_id, vector_store_id, file_id))
        if row is None:
            raise FileNotFound(f"vector store {vector_store_id!r} does not hold file {file_id!r}", param="file_id")
        return row

    def _rows(self, tenant_id: str, vector_store_id: str) -> Sequence[Row]:
        return [
            row
            for key, row in self._database.rows.items()
            if (key.tenant_id, key.vector_store_id) == (tenant_id, vector_store_id)
        ]


class FakeIngestionStore:
    def __init__(self, database: InMemoryDatabase, overdue_after: timedelta = timedelta(0)) -> None:
        self._database = database
        self._overdue_after = overdue_after

    async def claim(self, key: AttachmentKey, lease: timedelta) -> Claim | None:
        row = self._database.rows.get(key)
        if row is None or row.state is not AttachmentState.IN_PROGRESS or row.due_at > self._database.clock.now():
            return None
        file = self._database.files[key.tenant_id, key.file_id]
        row.epoch += 1
        row.crashes += 1
        row.due_at = self._database.clock.now() + lease
        return Claim(
            key,
            row.number,
            row.epoch,
            len(row.stored),
            row.crashes - 1,
            row.retries,
            Principal(
                key.tenant_id,
                row.principal.project_id,
                row.principal.key_id,
                roles=frozenset({"service"}),
                plan=row.principal.plan,
            ),
            file.filename,
            file.size_bytes,
            row.chunking,
            self._store(key).space,
            self._store(key).next_space,
        )

    async def overdue(self, limit: int) -> list[AttachmentKey]:
        latest = self._database.clock.now() - self._overdue_after
        turns: Counter[str] = Counter()
        waiting = []
        for row in sorted(self._database.rows.values(), key=lambda row: row.due_at):
            if row.state is AttachmentState.IN_PROGRESS and row.due_at <= latest:
                turns[row.key.tenant_id] += 1
                waiting.append((turns[row.key.tenant_id], row.due_at, row.key))
        return [key for *_, key in sorted(waiting, key=lambda entry: entry[:2])][:limit]

    async def extend(self, claim: Claim, lease: timedelta) -> None:
        self._fenced(claim).due_at = self._database.clock.now() + lease

    async def known_vectors(self, tenant_id: str, fingerprints: Sequence[bytes]) -> dict[bytes, Vector]:
        rows = {row.number: row for row in self._database.rows.values() if row.key.tenant_id == tenant_id}
        known = [(item.fingerprint, item.vector) for row in rows.values() for item in row.stored]
        known += [(one.fingerprint, one.vector) for place, one in self._database.vectors.items() if place[2] in rows]
        return {key: vector for key, vector in known if key in fingerprints}

    async def add_chunks(
        self, claim: Claim, batch: Sequence[EmbeddedChunk], lease: timedelta, quota: Quota = UNLIMITED
    ) -> Claim:
        row, store = self._fenced(claim), self._store(claim.key)
        vectors = vectors_by_space(claim, batch)
        if None in vectors.get(store.space.number, [None]):
            raise SpacesChanged(store.space, store.next_space)
        rows = self._database.rows.items()
        used = sum(len(other.stored) for key, other in rows if key.tenant_id == claim.key.tenant_id)
        check_quota("chunks", quota.chunks, used, len(batch))
        row.stored += batch
        for space in filter(None, (store.space, store.next_space)):
            for item, vector in zip(batch, vectors.get(space.number, ()), strict=False):
                if space.number and vector is not None:
                    place = (claim.key.vector_store_id, space.number, row.number, item.chunk.ordinal)
                    self._database.vectors[place] = vector
        row.crashes = row.retries = 0
        row.due_at = self._database.clock.now() + lease
        return replace(claim, space=store.space, next_space=store.next_space)

    def _store(self, key: AttachmentKey) -> Store:
        return self._database.stores[key.tenant_id, key.vector_store_id]

    async def index_keywords(self, claim: Claim, lease: timedelta) -> bool:
        (row := self._fenced(claim)).due_at = self._database.clock.now() + lease
        before, row.indexed_chunks = row.indexed_chunks, min(row.indexed_chunks + 1_000, len(row.stored))
        return before < row.indexed_chunks

    async def complete(self, claim: Claim, warnings: Sequence[FileWarning] = ()) -> None:
        row = self._fenced(claim)
        row.state, row.warnings, row.indexed_chunks = AttachmentState.COMPLETED, tuple(warnings), len(row.stored)

    async def finish(self, claim: Claim, batch: Any, warnings: Any = (), quota: Quota = UNLIMITED) -> None:
        await self.complete(await self.add_chunks(claim, batch, timedelta(0), quota), warnings)

    async def fail(self, claim: Claim, reason: str, message: str) -> None:
        row = self._fenced(claim)
        row.state, row.reason, row.message = AttachmentState.FAILED, reason, message
        row.stored, row.indexed_chunks = [], 0
        self._database.schedule_deletion(row)

    async def release(self, claim: Claim, delay: timedelta, *, failed: bool) -> None:
        row = self._fenced(claim)
        row.due_at = self._database.clock.now() + delay
        row.crashes = max(row.crashes - 1, 0)
        row.retries += failed

    def _fenced(self, claim: Claim) -> Row:
        row = self._database.rows.get(claim.key)
        current = row is not None and (row.number, row.epoch) == (claim.attachment, claim.epoch)
        if row is None or not current or row.state is not AttachmentState.IN_PROGRESS:
            raise ClaimLost
        return row


def usage_bytes(row: Row) -> int:
    return sum(len(item.chunk.text.encode()) + 2 * DIMENSIONS for item in row.stored)


def to_attachment(row: Row) -> Attachment:
    return Attachment(
        row.key.vector_store_id,
        row.key.file_id,
        row.state,
        row.reason,
        row.message,
        len(row.stored),
        usage_bytes(row),
        row.created_at,
        row.warnings,
        row.attributes,
        row.chunking,
    )
