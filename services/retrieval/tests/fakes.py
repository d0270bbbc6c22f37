"""Retrieval in memory: each port, kept honest by the contract suite that also runs on the real adapters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chassis.errors import DeadlineExceeded
from chassis.ids import new_id
from chassis.tenancy import Principal
from chassis.testing import FakeClock
from retrieval.domain.documents import Block
from retrieval.domain.embedding import DIMENSIONS, Vector
from retrieval.domain.files import Description, File, FileNotFound, object_key
from retrieval.domain.ingestion import AttachmentKey, Claim, ClaimLost, EmbeddedChunk
from retrieval.domain.listing import Listing
from retrieval.domain.removal import LEASE, Removal
from retrieval.domain.searching import ChunkKey, Text
from retrieval.domain.vector_stores import Attachment, AttachmentState, FileCounts, VectorStore, VectorStoreNotFound

from services.retrieval.tests.texts import a_vector, bm25, cosine, words


@dataclass
class Row:
    """What is known of an attachment."""

    principal: Principal
    key: AttachmentKey
    number: int
    created_at: datetime
    due_at: datetime
    state: AttachmentState = AttachmentState.IN_PROGRESS
    reason: str = ""
    message: str = ""
    epoch: int = 0
    crashes: int = 0
    retries: int = 0
    worded: int = 0
    stored: list[EmbeddedChunk] = field(default_factory=list)


@dataclass
class Knowledge:
    """What Postgres would hold."""

    clock: FakeClock = field(default_factory=FakeClock)
    files: dict[tuple[str, str], File] = field(default_factory=dict)
    stores: dict[tuple[str, str], tuple[str, datetime]] = field(default_factory=dict)
    rows: dict[AttachmentKey, Row] = field(default_factory=dict)
    removals: dict[tuple[str, str], tuple[Removal, datetime]] = field(default_factory=dict)
    announced: list[AttachmentKey] = field(default_factory=list)
    numbers: int = 0

    def remove(self, row: Row) -> None:
        """Note that its chunks go."""
        removal = Removal(row.key.tenant_id, f"attachment-{row.number}", "", row.key.vector_store_id, row.number)
        self.removals[row.key.tenant_id, removal.removal_id] = (removal, self.clock.now())

    def completed(self, tenant_id: str, vector_store_ids: Sequence[str]) -> list[Row]:
        """What searches find."""
        return [
            row
            for key, row in self.rows.items()
            if key.tenant_id == tenant_id
            and key.vector_store_id in vector_store_ids
            and row.state is AttachmentState.COMPLETED
        ]


class FakeFiles:
    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    async def intend(self, tenant_id: str, file_id: str, lifetime: timedelta) -> None:
        removal = Removal(tenant_id, f"object-{file_id}", object_key=object_key(tenant_id, file_id))
        self._knowledge.removals[tenant_id, removal.removal_id] = (removal, self._knowledge.clock.now() + lifetime)

    async def record(self, tenant_id: str, file_id: str, description: Description, size_bytes: int) -> File:
        key = (tenant_id, f"object-{file_id}")
        held_until = self._knowledge.clock.now() + LEASE
        if key not in self._knowledge.removals or self._knowledge.removals[key][1] <= held_until:
            raise DeadlineExceeded("the upload took too long")
        del self._knowledge.removals[key]
        file = File(file_id, description.filename, description.purpose, size_bytes, self._knowledge.clock.now())
        self._knowledge.files[tenant_id, file_id] = file
        return file

    async def get(self, tenant_id: str, file_id: str) -> File:
        if (tenant_id, file_id) not in self._knowledge.files:
            raise FileNotFound(f"there is no file {file_id!r}", param="file_id")
        return self._knowledge.files[tenant_id, file_id]

    async def list(self, tenant_id: str, *, limit: int, after: str, purpose: str) -> Listing[File]:
        found = sorted(
            (
                file
                for (owner, file_id), file in self._knowledge.files.items()
                if owner == tenant_id and (not after or file_id < after) and (not purpose or file.purpose == purpose)
            ),
            key=lambda file: file.file_id,
            reverse=True,
        )
        return Listing(tuple(found[:limit]), len(found) > limit)

    async def delete(self, tenant_id: str, file_id: str) -> None:
        await self.get(tenant_id, file_id)
        for key in [key for key in self._knowledge.rows if (key.tenant_id, key.file_id) == (tenant_id, file_id)]:
            self._knowledge.remove(self._knowledge.rows.pop(key))
        await self.intend(tenant_id, file_id, timedelta(0))
        del self._knowledge.files[tenant_id, file_id]


class FakeVectorStores:
    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    async def create(self, principal: Principal, name: str, file_ids: Sequence[str]) -> VectorStore:
        for file_id in file_ids:
            self._file(principal.tenant_id, file_id)
        vector_store_id = new_id("vs_")
        self._knowledge.stores[principal.tenant_id, vector_store_id] = (name, self._knowledge.clock.now())
        for file_id in file_ids:
            await self.attach(principal, vector_store_id, file_id)
        return await self.get(principal.tenant_id, vector_store_id)

    async def get(self, tenant_id: str, vector_store_id: str) -> VectorStore:
        if (tenant_id, vector_store_id) not in self._knowledge.stores:
            raise VectorStoreNotFound(f"there is no vector store {vector_store_id!r}", param="vector_store_id")
        name, created_at = self._knowledge.stores[tenant_id, vector_store_id]
        rows = self._rows(tenant_id, vector_store_id)
        states = Counter(row.state for row in rows)
        counts = FileCounts(*(states[state] for state in AttachmentState))
        return VectorStore(vector_store_id, name, created_at, counts, sum(usage_bytes(row) for row in rows))

    async def list(self, tenant_id: str, *, limit: int, after: str) -> Listing[VectorStore]:
        ids = [store for owner, store in self._knowledge.stores if owner == tenant_id and (not after or store < after)]
        ids.sort(reverse=True)
        return Listing(tuple([await self.get(tenant_id, store) for store in ids[:limit]]), len(ids) > limit)

    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        await self.get(tenant_id, vector_store_id)
        for row in self._rows(tenant_id, vector_store_id):
            self._knowledge.remove(self._knowledge.rows.pop(row.key))
        del self._knowledge.stores[tenant_id, vector_store_id]

    async def attach(self, principal: Principal, vector_store_id: str, file_id: str) -> Attachment:
        await self.get(principal.tenant_id, vector_store_id)
        self._file(principal.tenant_id, file_id)
        key = AttachmentKey(principal.tenant_id, vector_store_id, file_id)
        row = self._knowledge.rows.get(key)
        if row is None or row.state is AttachmentState.FAILED:
            now = self._knowledge.clock.now()
            self._knowledge.numbers += 1
            self._knowledge.rows[key] = Row(principal, key, self._knowledge.numbers, now, now)
            self._knowledge.announced.append(key)
        return await self.attachment(principal.tenant_id, vector_store_id, file_id)

    async def attachment(self, tenant_id: str, vector_store_id: str, file_id: str) -> Attachment:
        await self.get(tenant_id, vector_store_id)
        return seen(self._row(tenant_id, vector_store_id, file_id))

    async def attachments(
        self, tenant_id: str, vector_store_id: str, *, limit: int, after: str, state: AttachmentState | None
    ) -> Listing[Attachment]:
        await self.get(tenant_id, vector_store_id)
        before = self._row(tenant_id, vector_store_id, after).number if after else math.inf
        found = (row for row in self._rows(tenant_id, vector_store_id) if row.number < before)
        rows = sorted((row for row in found if state in {None, row.state}), key=lambda row: -row.number)
        return Listing(tuple(seen(row) for row in rows[:limit]), len(rows) > limit)

    async def detach(self, tenant_id: str, vector_store_id: str, file_id: str) -> None:
        await self.get(tenant_id, vector_store_id)
        row = self._row(tenant_id, vector_store_id, file_id)
        self._knowledge.remove(self._knowledge.rows.pop(row.key))

    def _file(self, tenant_id: str, file_id: str) -> None:
        if (tenant_id, file_id) not in self._knowledge.files:
            raise FileNotFound(f"there is no file {file_id!r}", param="file_id")

    def _row(self, tenant_id: str, vector_store_id: str, file_id: str) -> Row:
        row = self._knowledge.rows.get(AttachmentKey(tenant_id, vector_store_id, file_id))
        if row is None:
            raise FileNotFound(f"vector store {vector_store_id!r} does not hold file {file_id!r}", param="file_id")
        return row

    def _rows(self, tenant_id: str, vector_store_id: str) -> Sequence[Row]:
        return [
            row
            for key, row in self._knowledge.rows.items()
            if (key.tenant_id, key.vector_store_id) == (tenant_id, vector_store_id)
        ]


class FakeIngests:
    def __init__(self, knowledge: Knowledge, head_start: timedelta = timedelta(0)) -> None:
        self._knowledge = knowledge
        self._head_start = head_start

    async def claim(self, key: AttachmentKey, lease: timedelta) -> Claim | None:
        row = self._knowledge.rows.get(key)
        if row is None or row.state is not AttachmentState.IN_PROGRESS or row.due_at > self._knowledge.clock.now():
            return None
        file = self._knowledge.files[key.tenant_id, key.file_id]
        row.epoch += 1
        row.crashes += 1
        row.due_at = self._knowledge.clock.now() + lease
        return Claim(
            key,
            row.number,
            row.epoch,
            len(row.stored),
            row.crashes - 1,
            row.retries,
            Principal(key.tenant_id, row.principal.project_id, row.principal.key_id, roles=frozenset({"service"})),
            file.filename,
            file.size_bytes,
        )

    async def due(self, limit: int) -> list[AttachmentKey]:
        latest = self._knowledge.clock.now() - self._head_start
        turns: Counter[str] = Counter()
        waiting = []
        for row in sorted(self._knowledge.rows.values(), key=lambda row: row.due_at):
            if row.state is AttachmentState.IN_PROGRESS and row.due_at <= latest:
                turns[row.key.tenant_id] += 1
                waiting.append((turns[row.key.tenant_id], row.due_at, row.key))
        return [key for *_, key in sorted(waiting, key=lambda entry: entry[:2])][:limit]

    async def extend(self, claim: Claim, lease: timedelta) -> None:
        self._held(claim).due_at = self._knowledge.clock.now() + lease

    async def known(self, tenant_id: str, fingerprints: Sequence[bytes]) -> dict[bytes, Vector]:
        return {
            item.fingerprint: item.vector
            for row in self._knowledge.rows.values()
            if row.key.tenant_id == tenant_id
            for item in row.stored
            if item.fingerprint in fingerprints
        }

    async def add(self, claim: Claim, batch: Sequence[EmbeddedChunk], lease: timedelta) -> None:
        row = self._held(claim)
        row.stored += batch
        row.crashes = row.retries = 0
        row.due_at = self._knowledge.clock.now() + lease

    async def index_words(self, claim: Claim, lease: timedelta) -> bool:
        row = self._held(claim)
        row.due_at = self._knowledge.clock.now() + lease
        before, row.worded = row.worded, min(row.worded + 1_000, len(row.stored))
        return before < row.worded

    async def complete(self, claim: Claim) -> None:
        self._held(claim).state = AttachmentState.COMPLETED

    async def fail(self, claim: Claim, reason: str, message: str) -> None:
        row = self._held(claim)
        row.state, row.reason, row.message, row.stored, row.worded = AttachmentState.FAILED, reason, message, [], 0
        self._knowledge.remove(row)

    async def release(self, claim: Claim, wait: timedelta, *, retry: bool) -> None:
        row = self._held(claim)
        row.due_at = self._knowledge.clock.now() + wait
        row.crashes = max(row.crashes - 1, 0)
        row.retries += retry

    def _held(self, claim: Claim) -> Row:
        row = self._knowledge.rows.get(claim.key)
        held = row is not None and (row.number, row.epoch) == (claim.attachment, claim.epoch)
        if row is None or not held or row.state is not AttachmentState.IN_PROGRESS:
            raise ClaimLost
        return row


class FakeIndex:
    """Finds by the same formulas, knowing neither stems nor stop words."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    async def size(self, tenant_id: str, vector_store_ids: Sequence[str]) -> int:
        for vector_store_id in vector_store_ids:
            if (tenant_id, vector_store_id) not in self._knowledge.stores:
                raise VectorStoreNotFound(f"there is no vector store {vector_store_id!r}", param="vector_store_id")
        return len(self._chunks(tenant_id, vector_store_ids))

    async def nearest(
        self, tenant_id: str, vector_store_ids: Sequence[str], vector: Vector, limit: int
    ) -> list[ChunkKey]:
        chunks = self._chunks(tenant_id, vector_store_ids)
        return sorted(chunks, key=lambda key: (-cosine(chunks[key].vector, vector), key.attachment, key.ordinal))[
            :limit
        ]

    async def matching(self, tenant_id: str, vector_store_ids: Sequence[str], query: str, limit: int) -> list[ChunkKey]:
        chunks = self._chunks(tenant_id, vector_store_ids)
        documents = {key: Counter(words(item.chunk.text)) for key, item in chunks.items()}
        scores = bm25(set(words(query)), documents)
        return sorted(scores, key=lambda key: (-scores[key], key.attachment, key.ordinal))[:limit]

    async def texts(self, tenant_id: str, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Text]:
        found = {}
        for row in self._knowledge.completed(tenant_id, [key.vector_store_id for key in keys]):
            file = self._knowledge.files[tenant_id, row.key.file_id]
            for item in row.stored:
                key = ChunkKey(row.key.vector_store_id, row.number, item.chunk.ordinal)
                if key in keys:
                    found[key] = Text(file.file_id, file.filename, item.chunk.page, item.chunk.text)
        return found

    def _chunks(self, tenant_id: str, vector_store_ids: Sequence[str]) -> dict[ChunkKey, EmbeddedChunk]:
        return {
            ChunkKey(row.key.vector_store_id, row.number, item.chunk.ordinal): item
            for row in self._knowledge.completed(tenant_id, vector_store_ids)
            for item in row.stored
        }


class FakeRemovals:
    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    async def claim(self, limit: int, lease: timedelta) -> Sequence[Removal]:
        now = self._knowledge.clock.now()
        due = [(key, removal) for key, (removal, due_at) in self._knowledge.removals.items() if due_at <= now][:limit]
        for key, removal in due:
            self._knowledge.removals[key] = (removal, now + lease)
        return [removal for _, removal in due]

    async def remove_chunks(self, removal: Removal, limit: int) -> bool:
        return False

    async def done(self, removal: Removal) -> None:
        self._knowledge.removals.pop((removal.tenant_id, removal.removal_id), None)


class FakeObjects:
    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def put(self, key: str, data: AsyncIterator[bytes]) -> int:
        self.stored[key] = b"".join([piece async for piece in data])
        return len(self.stored[key])

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        if key not in self.stored:
            raise FileNotFound("the file's bytes are missing")
        for start in range(0, len(self.stored[key]), 1_000):
            yield self.stored[key][start : start + 1_000]

    async def delete(self, key: str) -> None:
        self.stored.pop(key, None)


class FakeParser:
    """Takes each line of a text for a page."""

    async def blocks(self, filename: str, data: AsyncGenerator[bytes, None]) -> AsyncGenerator[Block, None]:
        text = b"".join([piece async for piece in data]).decode()
        for page, line in enumerate(text.splitlines(), start=1):
            yield Block(page, line)


class FakeEmbedder:
    """Texts that share words have near vectors. Remembers what it was asked; `failures` are raised first, in order."""

    model = "fake"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.failures: list[BaseException] = []

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.asked.append(list(texts))
        if self.failures:
            raise self.failures.pop(0)
        return [a_vector(text) for text in texts]


def usage_bytes(row: Row) -> int:
    return sum(len(item.chunk.text.encode()) + 2 * DIMENSIONS for item in row.stored)


def seen(row: Row) -> Attachment:
    return Attachment(
        row.key.vector_store_id,
        row.key.file_id,
        row.state,
        row.reason,
        row.message,
        len(row.stored),
        usage_bytes(row),
        row.created_at,
    )
