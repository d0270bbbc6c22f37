"""Runs over a migration: complete, resumable, paid once, yielding to others, with errors stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from chassis.errors import Kind, RemoteError, Unavailable
from chassis.testing import a_principal
from retrieval.chunking.token_counter import EstimatedTokenCounter
from retrieval.ingestion.fair_queue import FairQueue
from retrieval.ingestion.model import RunResult
from retrieval.search.model import SearchQuery
from retrieval.search.search import search
from retrieval.store_migrations.model import MigrationKey, StoreMigration, StoreMigrationState
from retrieval.store_migrations.run import MAX_CRASHES, Migrator
from retrieval.vector_stores.model import AttachmentKey

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.fake_search import FakeSearchIndex
from services.retrieval.tests.fake_store_migrations import FakeStoreMigrations
from services.retrieval.tests.ingestion_world import PAGES, IngestionWorld
from services.retrieval.tests.unit.ingestion.test_run import Crash, Killer


class MigrationWorld(IngestionWorld):
    """A store with one indexed file of seven chunks, and a migration of it."""

    def __init__(self) -> None:
        super().__init__()
        self.migrations = FakeStoreMigrations(self.database)
        self.store_id = ""

    @property
    def narrow(self) -> FakeEmbedder:
        """The embedder of the model to which the store is migrated."""
        return self.embedder.of("narrow")

    async def started(self, text: str = "\n".join(PAGES)) -> MigrationKey:
        key = await self.attach(text)
        await self.ingestion().run(key)
        self.store_id = key.vector_store_id
        migration = await self.migrations.start(a_principal("ten_one"), self.store_id, "narrow", "fake")
        return MigrationKey("ten_one", self.store_id, migration.migration_id)

    def migrator(self, *, runs: Any = None, embedder: Any = None, others_wait: Any = lambda: False) -> Migrator:
        return Migrator(
            runs or self.migrations,
            self.ingestion(embedder=embedder).chunk_embedder,
            others_wait,
            batch_size=2,
            yield_after_chunks=4,
        )

    async def read(self, key: MigrationKey) -> StoreMigration:
        return await self.migrations.get(key.tenant_id, key.vector_store_id, key.migration_id)

    def paid(self) -> list[str]:
        """The texts that the new model has embedded."""
        return [text for texts in self.narrow.calls for text in texts]


@pytest.fixture
def world() -> MigrationWorld:
    return MigrationWorld()


async def test_each_text_is_embedded_once_and_the_old_vectors_are_deleted_after_the_grace(
    world: MigrationWorld,
) -> None:
    key = await world.started("\n".join([*PAGES, PAGES[0]]))

    summary = await world.migrator().run(key)

    assert summary is not None
    assert (summary.result, summary.chunks, summary.reused) == (RunResult.COMPLETED, 8, 1)
    assert sorted(world.paid()) == sorted(PAGES)
    migration = await world.read(key)
    assert (migration.state, migration.embedded_chunks, migration.reused_chunks) == (
        StoreMigrationState.COMPLETED,
        7,
        1,
    )
    assert await world.migrator().run(key) is None, "searches may still read the old vectors"
    assert not migration.unused_vectors_deleted
    world.database.clock.advance(timedelta(seconds=61))
    cleaned = await world.migrator().run(key)
    assert cleaned is not None
    assert cleaned.result is RunResult.COMPLETED
    assert (await world.read(key)).unused_vectors_deleted


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_kill_at_any_call_loses_nothing_and_costs_at_most_one_batch(after: bool) -> None:
    for fatal in range(1, 60):
        world = MigrationWorld()
        key = await world.started()
        killer = Killer(fatal, after=after)
        try:
            await world.migrator(runs=killer.wrap(world.migrations)).run(key)
        except Crash:
            world.database.clock.advance(timedelta(minutes=5))
            await world.migrator().run(key)
        migration = await world.read(key)
        assert migration.state is StoreMigrationState.COMPLETED
        assert set(world.paid()) == set(PAGES)
        assert len(world.paid()) <= len(PAGES) + 2
        if killer.calls < fatal:
            return
    raise AssertionError("the run has more calls than this test kills")


async def test_a_run_gives_its_place_to_others_and_goes_on_where_it_was(world: MigrationWorld) -> None:
    key = await world.started()
    waiting = iter([True, True, False, False, False, False])
    first = await world.migrator(others_wait=lambda: next(waiting)).run(key)

    assert first is not None
    assert (first.result, first.reason, first.chunks) == (RunResult.POSTPONED, "yielded", 4)
    second = await world.migrator().run(key)
    assert second is not None
    assert (second.result, second.chunks) == (RunResult.COMPLETED, 3)
    assert sorted(world.paid()) == sorted(PAGES)


async def test_a_migration_waits_for_one_file_of_each_tenant_and_not_for_all() -> None:
    queue, migration = FairQueue(), MigrationKey("ten_one", "vs_1", "vsm_1")
    files = [AttachmentKey(tenant, "vs_1", f"file-{n}") for n in range(3) for tenant in ("ten_one", "ten_other")]
    for key in files:
        queue.put(key)
    queue.put(migration)

    taken = [await queue.get() for _ in range(len(queue))]

    assert taken[2] == migration
    assert [key for key in taken if key != migration] == files


async def test_a_transient_error_postpones_and_a_lasting_one_fails_but_keeps_what_was_paid(
    world: MigrationWorld,
) -> None:
    key = await world.started()
    world.narrow.errors = [Unavailable("unreachable")] * 4
    postponed = await world.migrator().run(key)
    assert postponed is not None
    assert (postponed.result, postponed.reason) == (RunResult.POSTPONED, "service_unavailable")

    world.database.clock.advance(timedelta(minutes=2))
    await world.migrator(others_wait=lambda: True).run(key)
    world.narrow.errors = [RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent")]
    failed = await world.migrator().run(key)

    assert failed is not None
    assert (failed.result, failed.reason) == (RunResult.FAILED, "insufficient_quota")
    assert (await world.read(key)).migrated_chunks == 4
    await world.migrations.start(a_principal("ten_one"), world.store_id, "narrow", "fake")
    calls = len(world.narrow.calls)
    await world.migrator().run(key)
    assert [text for texts in world.narrow.calls[calls:] for text in texts] == PAGES[4:]
    assert (await world.read(key)).state is StoreMigrationState.COMPLETED


async def test_a_migration_that_kills_its_process_ends_as_failed(world: MigrationWorld) -> None:
    key = await world.started()
    for _ in range(MAX_CRASHES):
        with pytest.raises(Crash):
            await world.migrator(embedder=_Deadly(world.embedder)).run(key)
        world.database.clock.advance(timedelta(minutes=5))

    await world.migrator().run(key)

    migration = await world.read(key)
    assert (migration.state, migration.failure_reason) == (StoreMigrationState.FAILED, "migration_crashed")


async def test_files_are_indexed_although_the_new_model_does_not_answer(world: MigrationWorld) -> None:
    key = await world.started()
    world.narrow.errors = [RemoteError(Kind.NOT_FOUND, "MODEL_NOT_FOUND", "there is no such model")] * 9
    late = await world.attach("a late page", file_id="file-2")
    await world.vector_stores.attach(a_principal("ten_one"), world.store_id, "file-2")

    summary = await world.ingestion().run(type(late)("ten_one", world.store_id, "file-2"))

    assert summary is not None
    assert summary.result is RunResult.COMPLETED
    world.narrow.errors = []
    await world.migrator().run(key)
    assert (await world.read(key)).state is StoreMigrationState.COMPLETED
    assert world.paid().count("a late page") == 2, "once in vain"


class _Deadly:
    """An embedder whose other models kill the process."""

    model = "fake"

    def __init__(self, embedder: FakeEmbedder) -> None:
        self._embedder = embedder

    def of(self, model: str) -> Any:
        return Killer(1, after=False).wrap(self._embedder.of(model))


class CutOverMeanwhile(FakeEmbedder):
    """The store changes while the query is embedded by the old model."""

    def __init__(self, world: MigrationWorld, key: MigrationKey) -> None:
        super().__init__()
        self._world = world
        self._key = key
        self.others = world.embedder.others

    async def embed(self, texts: Any) -> Any:
        vectors = await super().embed(texts)
        await self._world.migrator().run(self._key)
        return vectors


async def test_a_search_begins_anew_when_the_store_changes_while_its_query_is_embedded(
    world: MigrationWorld,
) -> None:
    key = await world.started("red apples\ngreen pears\nblue plums")
    embedder = CutOverMeanwhile(world, key)

    found = await search(
        "ten_one",
        SearchQuery((world.store_id,), "ripe blue plums", 1),
        index=FakeSearchIndex(world.database),
        embedder=embedder,
        counter=EstimatedTokenCounter(),
    )

    assert [passage.source.text for passage in found] == ["blue plums"]
    assert len(embedder.calls) == 1
    assert world.narrow.calls[-1] == ["ripe blue plums"]


async def test_stores_of_two_models_are_searched_together_each_by_its_own(world: MigrationWorld) -> None:
    await world.migrator().run(await world.started("red apples\ngreen pears"))
    other = await world.attach("red cherries\nblue plums", file_id="file-2")
    await world.ingestion().run(other)
    world.embedder.calls.clear()

    found = await search(
        "ten_one",
        SearchQuery((world.store_id, other.vector_store_id), "something red", 2),
        index=FakeSearchIndex(world.database),
        embedder=world.embedder,
        counter=EstimatedTokenCounter(),
    )

    assert {passage.source.text for passage in found} == {"red apples", "red cherries"}
    assert world.embedder.calls == [["something red"]]
    assert world.narrow.calls[-1] == ["something red"]
