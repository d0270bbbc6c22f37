"""A tenant whose files are in all states, in two stores, and every operation that writes to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chassis.ids import new_id
from chassis.postgres import Database
from chassis.testing import a_principal
from retrieval.deletions.delete import PendingDeletion
from retrieval.file_batches.model import FileBatch
from retrieval.files.model import File, FileMetadata
from retrieval.ingestion.model import Claim
from retrieval.quotas.model import Quota
from retrieval.reindexing.postgres import PostgresKeywordVersions
from retrieval.reindexing.rebuild import OutdatedFile
from retrieval.search.words_postgres import LargeStore, PostgresCommonWords
from retrieval.store_migrations.model import BEFORE_ALL, MigrationClaim
from retrieval.vector_stores.model import AttachmentKey, FileToAttach, StoreChanges, VectorStore

from services.retrieval.tests.contracts.store_migrations import claimed, placed, start
from services.retrieval.tests.tenants import LONG, NOW, Tenant, embedded

QUOTA = Quota(files=1_000, file_bytes=1_000_000, vector_stores=1_000, chunks=1_000)
GERMAN = "Der Leuchtturm steht auf der Insel, und der Wärter zündet jeden Abend das Licht an."


@dataclass
class World:
    """In `store`: `done`, `half` (chunks, and no keywords yet), `failed`, `fresh` (no chunks) and `waiting`.

    `done` and `fresh` are in `other`, too, and `unattached` is in no store. `fresh` and `waiting` are those of `batch`.
    `store` is being migrated.
    """

    tenant: Tenant
    database: Database
    store: VectorStore
    other: VectorStore
    done: File
    half: File
    failed: File
    fresh: File
    waiting: File
    unattached: File
    batch: FileBatch
    claims: dict[str, Claim]
    migration: MigrationClaim

    @property
    def id(self) -> str:
        return self.tenant.tenant_id

    @property
    def principal(self) -> Any:
        return a_principal(self.id)

    def attached(self) -> list[FileToAttach]:
        """All files, with attributes that change those which are attached."""
        files = (self.waiting, self.failed, self.unattached, self.half, self.done, self.fresh)
        return [FileToAttach(file.file_id, {"year": 2024}) for file in files]

    async def outdated(self) -> OutdatedFile:
        async with self.database.tenant(self.id) as connection:
            row = await connection.fetchrow(
                "SELECT attachment, chunks FROM attachments WHERE vector_store_id = $1 AND file_id = $2",
                self.store.vector_store_id,
                self.done.file_id,
            )
        attachment, chunks = (row["attachment"], row["chunks"]) if row else (0, 1)
        return OutdatedFile(self.id, self.store.vector_store_id, attachment, chunks, 2)

    async def expired(self) -> None:
        async with self.database.tenant(self.id) as connection:
            await connection.execute(
                "UPDATE vector_stores SET expires_after_days = 1, last_active_at = now() - interval '2 days'"
                " WHERE vector_store_id = $1",
                self.store.vector_store_id,
            )


async def a_world(tenant: Tenant, database: Database) -> World:
    ports, principal = tenant.ports, a_principal(tenant.tenant_id)
    done, half, failed, fresh, waiting, unattached = [await tenant.file() for _ in range(6)]
    store, other = await tenant.store(), await tenant.store()
    claims = {}
    batch = await ports.batches.create(
        principal, store.vector_store_id, [FileToAttach(file.file_id) for file in (fresh, waiting)]
    )
    for one, files in ((other, (fresh, done)), (store, (done, half, failed))):
        for file in files:
            await ports.stores.attach(principal, one.vector_store_id, file.file_id)
    for state, file in (("half", half), ("failed", failed), ("fresh", fresh)):
        claims[state] = await tenant.claim(store.vector_store_id, file.file_id)
    for one in (store, other):
        claims["done"] = await tenant.claim(one.vector_store_id, done.file_id)
        await ports.ingestion_store.finish(claims["done"], embedded(["the lighthouse"]))
    await ports.ingestion_store.add_chunks(claims["half"], embedded(["the keeper", "the harbour"]), LONG)
    await ports.ingestion_store.fail(claims["failed"], "empty_file", "no text")
    claims["other fresh"] = await tenant.claim(other.vector_store_id, fresh.file_id)
    migration = await claimed(tenant, await start(tenant, store))
    return World(
        tenant, database, store, other, done, half, failed, fresh, waiting, unattached, batch, claims, migration
    )


Operation = Callable[[World], Awaitable[Any]]


def _ingestion(world: World) -> Any:
    return world.tenant.ports.ingestion_store


async def _complete_migration(world: World) -> None:
    """Embed what is complete, cut over, and clear the old space."""
    runs, claim = world.tenant.ports.migration_runs, world.migration
    await runs.add_vectors(claim, placed("narrow", await runs.chunks(claim, BEFORE_ALL, 100)), 0, LONG)
    await runs.cut_over(claim, NOW)


async def _retire(world: World) -> None:
    await world.tenant.ports.migrations.cancel(world.id, world.store.vector_store_id, world.migration.key.migration_id)
    claim = await world.tenant.ports.migration_runs.claim(world.migration.key, LONG)
    if claim is not None:
        await world.tenant.ports.migration_runs.delete_retired(claim, BEFORE_ALL, 100)
        await world.tenant.ports.migration_runs.end_retirement(claim)


async def _reindex(world: World) -> None:
    versions, file = PostgresKeywordVersions(world.database), await world.outdated()
    if await versions.rebuild(file, 0, 1_000):
        await versions.finish(file)


async def _expire(world: World) -> None:
    await world.expired()
    await world.tenant.ports.stores.expire(1)


async def _upload(world: World) -> None:
    files, file_id = world.tenant.ports.files, new_id("file-")
    await files.begin_upload(world.id, file_id, LONG, QUOTA)
    await files.commit_upload(world.id, file_id, FileMetadata("a.txt", "assistants"), 10, QUOTA)


async def _sweep(world: World) -> None:
    """Delete the chunks of what was detached, as the sweeper of each replica does."""
    queue = world.tenant.ports.deletions
    async with world.database.tenant(world.id) as connection:
        rows = await connection.fetch("SELECT * FROM deletions WHERE attachment IS NOT NULL")
    for row in rows:
        deletion = PendingDeletion(
            world.id, row["deletion_id"], row["epoch"], "", row["vector_store_id"], row["attachment"]
        )
        while await queue.delete_chunks(deletion, 1_000):
            pass
        await queue.complete(deletion)


OPERATIONS: dict[str, Operation] = {
    "upload": _upload,
    "delete file": lambda w: w.tenant.ports.files.delete(w.id, w.done.file_id),
    "delete half file": lambda w: w.tenant.ports.files.delete(w.id, w.half.file_id),
    "delete waiting file": lambda w: w.tenant.ports.files.delete(w.id, w.waiting.file_id),
    "create store": lambda w: w.tenant.ports.stores.create(
        w.principal, "new", [file.file_id for file in w.attached()], quota=QUOTA
    ),
    "update store": lambda w: w.tenant.ports.stores.update(
        w.id, w.store.vector_store_id, StoreChanges(name="renamed", expires_after=timedelta(days=9))
    ),
    "delete store": lambda w: w.tenant.ports.stores.delete(w.id, w.store.vector_store_id),
    "delete other store": lambda w: w.tenant.ports.stores.delete(w.id, w.other.vector_store_id),
    "expire": _expire,
    "attach": lambda w: w.tenant.ports.stores.attach(
        w.principal, w.store.vector_store_id, w.unattached.file_id, attributes={"year": 2024}
    ),
    "attach failed": lambda w: w.tenant.ports.stores.attach(w.principal, w.store.vector_store_id, w.failed.file_id),
    "attach again": lambda w: w.tenant.ports.stores.attach(
        w.principal, w.store.vector_store_id, w.done.file_id, attributes={"year": 2024}
    ),
    "update attachment": lambda w: w.tenant.ports.stores.update_attachment(
        w.id, w.store.vector_store_id, w.half.file_id, {"year": 2024}
    ),
    "detach": lambda w: w.tenant.ports.stores.detach(w.id, w.store.vector_store_id, w.done.file_id),
    "detach half": lambda w: w.tenant.ports.stores.detach(w.id, w.store.vector_store_id, w.half.file_id),
    "create batch": lambda w: w.tenant.ports.batches.create(w.principal, w.store.vector_store_id, w.attached()),
    "cancel batch": lambda w: w.tenant.ports.batches.cancel(w.id, w.store.vector_store_id, w.batch.batch_id),
    "claim": lambda w: _ingestion(w).claim(AttachmentKey(w.id, w.store.vector_store_id, w.waiting.file_id), LONG),
    "extend": lambda w: _ingestion(w).extend(w.claims["half"], LONG),
    "add chunks": lambda w: _ingestion(w).add_chunks(w.claims["half"], embedded(["more"], first=2), LONG, QUOTA),
    "index keywords": lambda w: _ingestion(w).index_keywords(w.claims["half"], LONG),
    "complete": lambda w: _ingestion(w).complete(w.claims["half"]),
    "finish": lambda w: _ingestion(w).finish(w.claims["fresh"], embedded(["the harbour"]), (), QUOTA),
    "finish in German": lambda w: _ingestion(w).finish(w.claims["fresh"], embedded([GERMAN]), (), QUOTA),
    "finish in other store": lambda w: _ingestion(w).finish(
        w.claims["other fresh"], embedded(["the harbour"]), (), QUOTA
    ),
    "fail": lambda w: _ingestion(w).fail(w.claims["half"], "empty_file", "no text"),
    "release": lambda w: _ingestion(w).release(w.claims["fresh"], timedelta(0), failed=True),
    "start migration": lambda w: start(w.tenant, w.other),
    "cut over": _complete_migration,
    "fail migration": lambda w: w.tenant.ports.migration_runs.fail(w.migration, "upstream", "none answered"),
    "cancel migration": _retire,
    "extend migration": lambda w: w.tenant.ports.migration_runs.extend(w.migration, LONG),
    "reindex": _reindex,
    "outdate": lambda w: PostgresKeywordVersions(w.database).expire(w.store.vector_store_id),
    "count words": lambda w: PostgresCommonWords(w.database, large_store_chunks=1, common_chunks=0).count(
        LargeStore(w.id, w.store.vector_store_id, 1, 1)
    ),
    "sweep": _sweep,
}
