"""Tests of StoreMigrations and MigrationRuns: on the fakes in `unit`, on Postgres in `integration`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import a_principal
from retrieval.chunking.splitter import Chunk
from retrieval.embeddings.model import EmbeddingSpace, fingerprint
from retrieval.ingestion.model import Claim, ClaimLost, EmbeddedChunk, SpacesChanged, TextVector
from retrieval.search.model import StoreSpaceChanged
from retrieval.store_migrations.model import (
    BEFORE_ALL,
    MigrationClaim,
    MigrationKey,
    PlacedVector,
    StoredChunk,
    StoreMigration,
    StoreMigrationNotFound,
    StoreMigrationRunning,
    StoreMigrationState,
)
from retrieval.vector_stores.model import VectorStore, VectorStoreNotFound
from values.attributes import to_filter

from services.retrieval.tests.tenants import LONG, NOW, Tenant, embedded
from services.retrieval.tests.texts import a_vector

NARROW, WIDE = 96, 512
"""Dimensions of two other models."""


async def start(tenant: Tenant, store: VectorStore, model: str = "narrow") -> StoreMigration:
    return await tenant.ports.migrations.start(
        a_principal(tenant.tenant_id), store.vector_store_id, model, own_model="fake"
    )


async def read(tenant: Tenant, migration: StoreMigration) -> StoreMigration:
    return await tenant.ports.migrations.get(tenant.tenant_id, migration.vector_store_id, migration.migration_id)


def key_of(tenant: Tenant, migration: StoreMigration) -> MigrationKey:
    return MigrationKey(tenant.tenant_id, migration.vector_store_id, migration.migration_id)


async def claimed(tenant: Tenant, migration: StoreMigration, lease: timedelta = LONG) -> MigrationClaim:
    claim = await tenant.ports.migration_runs.claim(key_of(tenant, migration), lease)
    assert claim is not None
    return claim


def text_vector(model: str, text: str, dimensions: int = NARROW) -> TextVector:
    return TextVector(fingerprint(model, text), a_vector(text, model, dimensions))


def placed(model: str, chunks: Sequence[StoredChunk], dimensions: int = NARROW) -> list[PlacedVector]:
    return [PlacedVector(chunk.place, text_vector(model, chunk.text, dimensions)) for chunk in chunks if chunk.missing]


async def embed_all(tenant: Tenant, claim: MigrationClaim, dimensions: int = NARROW) -> int:
    """Give each chunk its vector; how many had none."""
    runs = tenant.ports.migration_runs
    vectors = placed(claim.space.model, await runs.chunks(claim, BEFORE_ALL, 100), dimensions)
    await runs.add_vectors(claim, vectors, 0, LONG)
    return len(vectors)


async def migrated(tenant: Tenant, store: VectorStore, model: str = "narrow", dimensions: int = NARROW) -> None:
    claim = await claimed(tenant, await start(tenant, store, model))
    await embed_all(tenant, claim, dimensions)
    assert await tenant.ports.migration_runs.cut_over(claim, NOW)


async def nearest(tenant: Tenant, store: VectorStore, query: str, dimensions: int = NARROW) -> list[str]:
    """The texts nearest to the query by the model that the store has now."""
    index, stores = tenant.ports.index, [store.vector_store_id]
    contents = await index.contents(tenant.tenant_id, stores)
    space = contents.spaces[store.vector_store_id]
    vector = a_vector(query, space.model, dimensions) if space.number else a_vector(query)
    keys = await index.vector_search(tenant.tenant_id, stores, vector, 2, spaces=contents.spaces)
    texts = await index.chunk_texts(tenant.tenant_id, keys)
    return [texts[key].text for key in keys]


def for_both(texts: Sequence[str], model: str = "narrow", first: int = 0) -> list[EmbeddedChunk]:
    return [
        EmbeddedChunk(item.chunk, item.fingerprint, item.vector, text_vector(model, item.chunk.text))
        for item in embedded(texts, first)
    ]


class StoreMigrationsContract:
    async def test_a_store_is_searched_by_its_old_model_until_the_change_and_by_the_new_one_from_then_on(
        self, one: Tenant
    ) -> None:
        store, _ = await one.indexed("red apples", "green pears")
        migration = await start(one, store)
        claim = await claimed(one, migration)

        assert not await one.ports.migration_runs.cut_over(claim, NOW), "no chunk has a vector"
        chunks = await one.ports.migration_runs.chunks(claim, BEFORE_ALL, 100)
        assert [(chunk.text, chunk.missing) for chunk in chunks] == [("red apples", True), ("green pears", True)]
        await one.ports.migration_runs.add_vectors(claim, placed("narrow", chunks[:1]), 0, LONG)
        assert not await one.ports.migration_runs.cut_over(claim, NOW), "one chunk has none"
        before = await one.ports.index.contents(one.tenant_id, [store.vector_store_id])
        assert await nearest(one, store, "green pears") == ["green pears", "red apples"]
        assert await embed_all(one, claim) == 1
        assert await one.ports.migration_runs.cut_over(claim, NOW)

        after = await one.ports.index.contents(one.tenant_id, [store.vector_store_id])
        assert before.spaces[store.vector_store_id].model != "narrow"
        assert after.spaces[store.vector_store_id] == claim.space
        assert await nearest(one, store, "green pears") == ["green pears", "red apples"]
        done = await read(one, migration)
        assert (done.state, done.chunks, done.migrated_chunks) == (StoreMigrationState.COMPLETED, 2, 2)
        assert (done.embedded_chunks, done.reused_chunks, done.unused_vectors_deleted) == (2, 0, False)
        assert (await one.ports.stores.get(one.tenant_id, store.vector_store_id)).embedding_model == "narrow"

    async def test_a_search_that_has_read_the_old_space_is_told_of_the_change(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        stores = [store.vector_store_id]
        before = await one.ports.index.contents(one.tenant_id, stores)
        await migrated(one, store)

        with pytest.raises(StoreSpaceChanged):
            await one.ports.index.vector_search(one.tenant_id, stores, a_vector("red"), 2, spaces=before.spaces)

    async def test_filters_hold_in_stores_that_were_migrated_beside_stores_that_were_not(self, one: Tenant) -> None:
        migrated_store, _ = await one.indexed("red apples", attributes={"year": 2024})
        await one.indexed("red cherries", store=migrated_store, attributes={"year": 2023})
        other, _ = await one.indexed("red plums", attributes={"year": 2024})
        filters = to_filter({"type": "eq", "key": "year", "value": 2024})
        for store in (migrated_store, other):
            await migrated(one, store)
        stores = [migrated_store.vector_store_id, other.vector_store_id]
        contents = await one.ports.index.contents(one.tenant_id, stores, filters)

        keys = await one.ports.index.vector_search(
            one.tenant_id, stores, a_vector("red", "narrow", NARROW), 9, filters, spaces=contents.spaces
        )

        texts = await one.ports.index.chunk_texts(one.tenant_id, keys)
        assert contents.chunks == 2
        assert {texts[key].text for key in keys} == {"red apples", "red plums"}

    async def test_candidates_and_relevant_passages_have_the_vectors_of_the_new_space(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples", "green pears")
        await migrated(one, store)
        index, stores = one.ports.index, [store.vector_store_id]
        spaces = (await index.contents(one.tenant_id, stores)).spaces
        keys = list(await index.keyword_search(one.tenant_id, stores, "apples pears", 9))
        wanted = a_vector("red apples", "narrow", NARROW)
        floats = [1.0 if n == 0 else 0.0 for n in range(NARROW)]

        _, relevant = await index.relevant(one.tenant_id, keys, "apples", spaces)
        near = await index.candidates(one.tenant_id, keys, floats, ["apples"], spaces)

        assert {len(passage.vector) for passage in relevant} == {4 * NARROW} == {len(wanted)}
        assert set(near) == set(keys)

    async def test_the_old_vectors_are_deleted_and_the_store_can_be_migrated_again_and_back(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples", "green pears", "blue plums")
        runs = one.ports.migration_runs
        for model, dimensions in (("narrow", NARROW), ("wide", WIDE), ("fake", 384)):
            migration = await start(one, store, model)
            claim = await claimed(one, migration)
            assert await embed_all(one, claim, dimensions) == 3
            assert await runs.cut_over(claim, NOW)
            assert await runs.claim(key_of(one, migration), NOW) is not None, "there are vectors to delete"
            cleaning = await claimed(one, migration)
            assert cleaning.retired_space is not None
            last = await runs.delete_retired(cleaning, BEFORE_ALL, 2)
            assert last is not None
            while (last := await runs.delete_retired(cleaning, last, 2)) is not None:
                pass
            await runs.end_retirement(cleaning)

            assert (await read(one, migration)).unused_vectors_deleted
            assert await runs.claim(key_of(one, migration), LONG) is None
            assert (await nearest(one, store, "blue plums", dimensions))[0] == "blue plums"

    async def test_a_file_that_comes_meanwhile_is_stored_in_both_spaces(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        claim = await claimed(one, await start(one, store))
        assert await embed_all(one, claim) == 1
        ingestion, file = one.ports.ingestion_store, await one.file()
        await one.ports.stores.attach(a_principal(one.tenant_id), store.vector_store_id, file.file_id)
        file_claim = await one.claim(store.vector_store_id, file.file_id)
        assert file_claim.next_space == claim.space

        await ingestion.add_chunks(file_claim, for_both(["green pears"]), LONG)
        assert await one.ports.migration_runs.cut_over(claim, NOW), "it has its vector"
        # The claim was made before the change, and its vectors are of both spaces.
        now = await ingestion.add_chunks(file_claim, for_both(["blue plums"], first=1), LONG)
        await ingestion.complete(now)

        assert (now.space, now.next_space) == (claim.space, None)
        assert (await nearest(one, store, "blue plums"))[0] == "blue plums"
        assert (await nearest(one, store, "green pears"))[0] == "green pears"

    async def test_chunks_without_a_vector_of_the_new_space_are_not_stored_after_the_change(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        file = await one.file()
        await one.ports.stores.attach(a_principal(one.tenant_id), store.vector_store_id, file.file_id)
        before = await one.claim(store.vector_store_id, file.file_id)
        await migrated(one, store)

        with pytest.raises(SpacesChanged) as changed:
            await one.ports.ingestion_store.add_chunks(before, embedded(["green pears"]), LONG)

        assert changed.value.space.model == "narrow"
        assert changed.value.next_space is None
        attachment = await one.ports.stores.attachment(one.tenant_id, store.vector_store_id, file.file_id)
        assert attachment.chunks == 0

    async def test_a_file_whose_new_model_did_not_answer_is_left_to_the_migration(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        claim = await claimed(one, await start(one, store))
        await embed_all(one, claim)
        await one.indexed("green pears", store=store)

        assert not await one.ports.migration_runs.cut_over(claim, NOW)
        assert await embed_all(one, claim) == 1
        assert await one.ports.migration_runs.cut_over(claim, NOW)

    async def test_a_file_that_is_taken_out_meanwhile_is_not_waited_for(self, one: Tenant) -> None:
        store, file = await one.indexed("red apples")
        await one.indexed("green pears", store=store)
        claim = await claimed(one, await start(one, store))
        runs = one.ports.migration_runs
        chunks = await runs.chunks(claim, BEFORE_ALL, 100)
        await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)

        await runs.add_vectors(claim, placed("narrow", chunks), 0, LONG)
        migration = await one.ports.migrations.get(one.tenant_id, store.vector_store_id, claim.key.migration_id)

        assert (migration.chunks, migration.migrated_chunks) == (1, 1)
        assert await runs.cut_over(claim, NOW)
        assert await nearest(one, store, "red apples") == ["green pears"]

    async def test_a_cancelled_migration_stops_its_run_and_its_vectors_are_deleted(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        migration = await start(one, store)
        claim = await claimed(one, migration)
        await embed_all(one, claim)

        cancelled = await one.ports.migrations.cancel(one.tenant_id, store.vector_store_id, migration.migration_id)
        again = await one.ports.migrations.cancel(one.tenant_id, store.vector_store_id, migration.migration_id)

        assert cancelled.state is again.state is StoreMigrationState.CANCELLED
        with pytest.raises(ClaimLost):
            await one.ports.migration_runs.cut_over(claim, NOW)
        cleaning = await claimed(one, migration)
        assert cleaning.retired_space == claim.space.number
        assert await one.ports.migration_runs.delete_retired(cleaning, BEFORE_ALL, 10) is not None
        assert await one.ports.migration_runs.delete_retired(cleaning, BEFORE_ALL, 10) is None
        await one.ports.migration_runs.end_retirement(cleaning)
        assert (await read(one, migration)).unused_vectors_deleted
        assert await nearest(one, store, "red apples") == ["red apples"]
        assert (await one.claim(*await self.attached(one, store))).next_space is None

    async def attached(self, tenant: Tenant, store: VectorStore) -> tuple[str, str]:
        file = await tenant.file()
        await tenant.ports.stores.attach(a_principal(tenant.tenant_id), store.vector_store_id, file.file_id)
        return store.vector_store_id, file.file_id

    async def test_a_completed_migration_is_not_cancelled(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        migration = await start(one, store)
        claim = await claimed(one, migration)
        await embed_all(one, claim)
        await one.ports.migration_runs.cut_over(claim, NOW)

        late = await one.ports.migrations.cancel(one.tenant_id, store.vector_store_id, migration.migration_id)

        assert late.state is StoreMigrationState.COMPLETED
        assert await nearest(one, store, "red apples") == ["red apples"]

    async def test_a_failed_migration_goes_on_with_what_it_had(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples", "green pears")
        migration = await start(one, store)
        claim = await claimed(one, migration)
        chunks = await one.ports.migration_runs.chunks(claim, BEFORE_ALL, 100)
        await one.ports.migration_runs.add_vectors(claim, placed("narrow", chunks[:1]), 0, LONG)
        await one.ports.migration_runs.fail(claim, "insufficient_quota", "the budget is spent")

        failed = await read(one, migration)
        assert (failed.state, failed.failure_reason) == (StoreMigrationState.FAILED, "insufficient_quota")
        assert await one.ports.migration_runs.claim(key_of(one, migration), LONG) is None
        again = await start(one, store)

        assert (again.migration_id, again.state) == (migration.migration_id, StoreMigrationState.IN_PROGRESS)
        assert (again.migrated_chunks, again.failure_reason) == (1, "")
        assert await embed_all(one, await claimed(one, again)) == 1

    async def test_another_model_after_a_failure_deletes_what_the_failed_migration_had(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        failed = await start(one, store)
        claim = await claimed(one, failed)
        await embed_all(one, claim)
        await one.ports.migration_runs.fail(claim, "model_not_found", "there is no such model")

        await migrated(one, store, "wide", WIDE)

        assert (await read(one, failed)).state is StoreMigrationState.CANCELLED
        assert (await claimed(one, failed)).retired_space == claim.space.number

    async def test_a_start_is_safe_to_repeat_and_refused_for_a_second_model_and_for_the_same_one(
        self, one: Tenant
    ) -> None:
        store, _ = await one.indexed("red apples")
        first = await start(one, store)

        assert (await start(one, store)).migration_id == first.migration_id
        with pytest.raises(StoreMigrationRunning):
            await start(one, store, "wide")
        other_store = await one.store()
        with pytest.raises(InvalidRequest):
            await start(one, other_store, "fake")

    async def test_migrations_are_listed_newest_first_in_pages(self, one: Tenant) -> None:
        store = await one.store()
        started = []
        for model in ("narrow", "wide", "other"):
            migration = await start(one, store, model)
            await one.ports.migrations.cancel(one.tenant_id, store.vector_store_id, migration.migration_id)
            started.append(migration.migration_id)
            await asyncio.sleep(0.002)  # ids of one millisecond have no order

        first = await one.ports.migrations.list(one.tenant_id, store.vector_store_id, limit=2, after="")
        rest = await one.ports.migrations.list(one.tenant_id, store.vector_store_id, limit=2, after=started[1])

        assert [migration.migration_id for migration in first.items] == started[:0:-1]
        assert first.has_more
        assert [migration.migration_id for migration in rest.items] == started[:1]
        assert not rest.has_more

    async def test_another_tenant_sees_no_migration(self, one: Tenant, other: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        migration = await start(one, store)
        own = await other.store()

        with pytest.raises(VectorStoreNotFound):
            await start(other, store)
        for method in (other.ports.migrations.get, other.ports.migrations.cancel):
            with pytest.raises(VectorStoreNotFound):
                await method(other.tenant_id, store.vector_store_id, migration.migration_id)
            with pytest.raises(StoreMigrationNotFound):
                await method(other.tenant_id, own.vector_store_id, migration.migration_id)
        key = MigrationKey(other.tenant_id, store.vector_store_id, migration.migration_id)
        assert await other.ports.migration_runs.claim(key, LONG) is None

    async def test_of_two_claimers_one_gets_the_migration_and_a_lost_lease_cannot_write(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        migration = await start(one, store)
        first = await claimed(one, migration, NOW)
        second = await claimed(one, migration)

        assert await one.ports.migration_runs.claim(key_of(one, migration), LONG) is None
        assert second.crashes == 1
        with pytest.raises(ClaimLost):
            await embed_all(one, first)
        await one.ports.migration_runs.release(second, NOW, failed=True)
        assert key_of(one, migration) in await one.ports.migration_runs.overdue(100)
        third = await claimed(one, migration)
        assert (third.crashes, third.retries) == (1, 1)

    async def test_a_deleted_store_ends_its_migration(self, one: Tenant) -> None:
        store, _ = await one.indexed("red apples")
        claim = await claimed(one, await start(one, store))
        await one.ports.stores.delete(one.tenant_id, store.vector_store_id)

        with pytest.raises(ClaimLost):
            await one.ports.migration_runs.cut_over(claim, NOW)

    async def test_a_store_of_another_model_keeps_its_vectors_in_its_own_space(self, one: Tenant) -> None:
        space = EmbeddingSpace("narrow", 1)
        store = await one.ports.stores.create(a_principal(one.tenant_id), "narrow", (), space=space)
        claim: Claim = await one.claim(*await self.attached(one, store))
        assert claim.space == space
        own = text_vector("narrow", "red apples")

        await one.ports.ingestion_store.add_chunks(
            claim, [EmbeddedChunk(Chunk(0, 1, "red apples"), own.fingerprint, own.vector)], LONG
        )
        await one.ports.ingestion_store.complete(claim)

        assert await nearest(one, store, "red apples") == ["red apples"]
        known = await one.ports.ingestion_store.known_vectors(one.tenant_id, [own.fingerprint])
        assert set(known) == {own.fingerprint}
