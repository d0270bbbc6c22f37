"""Runs over a file: complete, resumable, embedded once, with errors stored."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
from typing import Any

import pytest
from chassis.errors import ArgosyError, Kind, RemoteError, Unavailable
from chassis.tenancy import current_caller
from chassis.testing import a_verifier
from retrieval.ingestion.claim import LEASE
from retrieval.ingestion.fair_queue import FairQueue
from retrieval.ingestion.model import RunResult, is_transient
from retrieval.parsing.model import FileWarning
from retrieval.vector_stores.model import AttachmentKey, AttachmentState

from services.retrieval.tests.fake_peers import FakeEmbedder, FakeParser
from services.retrieval.tests.fakes import FakeIngestionStore
from services.retrieval.tests.ingestion_world import PAGES, IngestionWorld


class Crash(BaseException):
    """The process is killed: nothing is cleaned up."""


class Killer:
    """Wraps ports and kills the process at one of all their calls, before or after the call has its effect."""

    def __init__(self, fatal: int, *, after: bool) -> None:
        self._fatal = fatal
        self._after = after
        self.calls = 0

    def wrap(self, port: Any) -> Any:
        return _WrappedPort(port, self)

    def fatal(self, *, after: bool) -> None:
        if not after:
            self.calls += 1
        if self.calls == self._fatal and after == self._after:
            raise Crash


class _WrappedPort:
    def __init__(self, port: Any, killer: Killer) -> None:
        self._port = port
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._killer.fatal(after=False)
            result = await attribute(*args, **kwargs)
            self._killer.fatal(after=True)
            return result

        return call


@pytest.fixture
def world() -> IngestionWorld:
    return IngestionWorld()


async def test_a_file_becomes_chunks_with_pages_and_is_complete(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))

    summary = await world.ingestion().run(key)

    assert summary is not None
    assert (summary.result, summary.chunks) == (RunResult.COMPLETED, 7)
    row = world.row(key)
    assert row.state is AttachmentState.COMPLETED
    assert [item.chunk.text for item in row.stored] == PAGES
    assert [item.chunk.page for item in row.stored] == [1, 2, 3, 4, 5, 6, 7]
    assert row.indexed_chunks == 7
    assert [len(texts) for texts in world.embedder.calls] == [2, 2, 2, 1]


async def test_what_is_left_out_of_a_file_is_stored_once_although_a_run_was_cut(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    left_out = FileWarning("pictures", "text in pictures is not read")
    ingestion = world.ingestion(parser=FakeParser(left_out), yield_after_chunks=4, has_other_tenants=lambda _: True)

    await ingestion.run(key)
    assert world.row(key).warnings == ()
    await ingestion.run(key)

    assert world.row(key).state is AttachmentState.COMPLETED
    assert world.row(key).warnings == (left_out,)


async def test_a_second_run_has_nothing_to_do(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    await world.ingestion().run(key)

    assert await world.ingestion().run(key) is None
    assert len(world.embedder.calls) == 4


async def count_calls_of_a_run() -> int:
    world, killer = IngestionWorld(), Killer(fatal=-1, after=False)
    key = await world.attach("\n".join(PAGES))
    await world.ingestion(store=killer.wrap(world.store), embedder=killer.wrap(world.embedder)).run(key)
    return killer.calls


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_kill_at_any_step_loses_nothing_doubles_nothing_and_costs_one_batch(*, after: bool) -> None:
    steps = await count_calls_of_a_run()
    assert steps > 12
    for fatal in range(1, steps + 1):
        world, killer = IngestionWorld(), Killer(fatal, after=after)
        key = await world.attach("\n".join(PAGES))

        with pytest.raises(Crash):
            await world.ingestion(store=killer.wrap(world.store), embedder=killer.wrap(world.embedder)).run(key)
        assert await world.ingestion().run(key) is None or world.row(key).epoch == 1, "the lease still holds"
        world.database.clock.advance(LEASE)
        await world.ingestion().run(key)

        row = world.row(key)
        assert row.state is AttachmentState.COMPLETED
        assert [item.chunk.text for item in row.stored] == PAGES
        assert sum(len(texts) for texts in world.embedder.calls) <= len(PAGES) + 2


async def test_kills_after_every_batch_are_survived_in_a_row(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    while world.row(key).state is AttachmentState.IN_PROGRESS:
        stored = len(world.row(key).stored)
        killer = Killer(2, after=True)  # after embed; known_vectors comes before it and add_chunks after it
        try:
            await world.ingestion(embedder=killer.wrap(world.embedder)).run(key)
        except Crash:
            assert len(world.row(key).stored) == stored + 2
        world.database.clock.advance(LEASE)

    assert [item.chunk.text for item in world.row(key).stored] == PAGES


async def test_a_file_that_crashes_every_process_fails(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    for _ in range(10):
        with pytest.raises(Crash):
            await world.ingestion(embedder=Killer(1, after=False).wrap(world.embedder)).run(key)
        world.database.clock.advance(LEASE)

    summary = await world.ingestion().run(key)

    assert summary is not None
    assert (summary.result, summary.reason) == (RunResult.FAILED, "indexing_crashed")


async def test_equal_text_is_embedded_once_per_tenant(world: IngestionWorld) -> None:
    first = await world.attach("\n".join([*PAGES, PAGES[0]]), "file-1")
    second = await world.attach("\n".join(PAGES[3:]), "file-2")
    other_tenant = await world.attach(PAGES[0], "file-3", tenant_id="ten_other")
    for key in (first, second, other_tenant):
        await world.ingestion().run(key)

    embedded = [text for texts in world.embedder.calls for text in texts]
    assert sorted(embedded) == sorted([*PAGES, PAGES[0]])  # embedded again for the other tenant
    assert len(world.row(first).stored) == 8
    assert len(world.row(second).stored) == 4


async def test_the_principal_that_attached_the_file_pays_for_embeddings(world: IngestionWorld) -> None:
    class CheckingEmbedder(FakeEmbedder):
        async def embed(self, texts: Any) -> Any:
            caller = current_caller()
            assert a_verifier().verify(caller.token) == caller.principal
            assert (caller.principal.tenant_id, caller.principal.project_id) == ("ten_one", "prj_test")
            assert (caller.principal.key_id, caller.request_id[:4]) == ("key_test", "req_")
            return await super().embed(texts)

    key = await world.attach(PAGES[0])

    summary = await world.ingestion(embedder=CheckingEmbedder()).run(key)

    assert summary is not None
    assert summary.result is RunResult.COMPLETED


async def test_transient_errors_are_retried_with_growing_pauses(world: IngestionWorld) -> None:
    key = await world.attach(PAGES[0])
    limited = RemoteError(Kind.THROTTLED, "UPSTREAM_RATE_LIMITED", "slow down", retry_after=timedelta(seconds=17))
    world.embedder.errors = [Unavailable("unreachable"), limited]

    summary = await world.ingestion().run(key)

    assert summary is not None
    assert summary.result is RunResult.COMPLETED
    assert 1 <= world.pauses[0] <= 2
    assert world.pauses[1] == 17


async def test_after_its_retries_a_run_is_postponed_longer_each_time_and_resumed(
    world: IngestionWorld,
) -> None:
    key = await world.attach("\n".join(PAGES))
    waits = []
    for retries in range(8):
        world.embedder.errors = [Unavailable("unreachable")] * 4
        summary = await world.ingestion().run(key)
        assert summary is not None
        assert (summary.result, summary.reason) == (RunResult.POSTPONED, "service_unavailable")
        assert world.row(key).retries == retries + 1
        waits.append(world.row(key).due_at - world.database.clock.now())
        assert await world.ingestion().run(key) is None
        world.database.clock.advance(waits[-1])

    assert all(timedelta(seconds=1) <= wait <= timedelta(seconds=60) for wait in waits)
    assert waits[0] <= timedelta(seconds=2)
    final = await world.ingestion().run(key)
    assert final is not None
    assert final.result is RunResult.COMPLETED


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent"), "insufficient_quota"),
        (RemoteError(Kind.NOT_FOUND, "MODEL_NOT_FOUND", "no such model"), "model_not_found"),
        (RemoteError(Kind.UPSTREAM, "UPSTREAM_REJECTED", "too long"), "upstream_rejected"),
    ],
)
async def test_permanent_errors_fail_the_attachment_and_delete_its_chunks(
    world: IngestionWorld, error: ArgosyError, reason: str
) -> None:
    key = await world.attach("\n".join(PAGES))
    world.embedder.errors = [error]
    await world.ingestion().run(key)

    row = world.row(key)
    assert (row.state, row.reason, row.message) == (AttachmentState.FAILED, reason, error.message)
    assert row.stored == []
    assert len(world.embedder.calls) == 1
    assert [deletion.attachment for deletion, _ in world.database.deletions.values()] == [row.number]


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_error_is_transient_or_permanent(kind: Kind) -> None:
    permanent = {
        Kind.INVALID,
        Kind.DENIED,
        Kind.NOT_FOUND,
        Kind.EXPIRED,
        Kind.CONFLICT,
        Kind.UNPROCESSABLE,
        Kind.TOO_LARGE,
        Kind.EXHAUSTED,
        Kind.UPSTREAM,
    }

    assert is_transient(RemoteError(kind, "ANYTHING", "")) == (kind not in permanent)
    assert is_transient(RemoteError(Kind.UPSTREAM, "UPSTREAM_TIMED_OUT", ""))


async def test_a_file_that_is_too_large_fails_without_being_read(world: IngestionWorld) -> None:
    key = await world.attach("x" * 100_001)
    world.objects.stored.clear()

    await world.ingestion().run(key)

    assert world.row(key).reason == "file_too_large"


@pytest.mark.parametrize("text", ["", " \n \n"])
async def test_a_file_without_text_fails(world: IngestionWorld, text: str) -> None:
    key = await world.attach(text)

    await world.ingestion().run(key)

    assert world.row(key).reason == "empty_file"


async def test_a_file_whose_bytes_are_missing_fails(world: IngestionWorld) -> None:
    key = await world.attach(PAGES[0])
    world.objects.stored.clear()

    await world.ingestion().run(key)

    assert world.row(key).reason == "unreadable_file"


async def test_a_run_over_a_detached_file_ends_as_lost(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))

    class DetachingEmbedder(FakeEmbedder):
        async def embed(self, texts: Any) -> Any:
            await world.vector_stores.detach(key.tenant_id, key.vector_store_id, key.file_id)
            return await super().embed(texts)

    summary = await world.ingestion(embedder=DetachingEmbedder()).run(key)

    assert summary is not None
    assert summary.result is RunResult.LOST
    assert world.database.rows == {}


async def test_vectors_of_chunks_that_were_not_stored_are_not_counted_as_reused(world: IngestionWorld) -> None:
    await world.ingestion().run(await world.attach("\n".join(PAGES)))
    key = await world.attach("\n".join(PAGES), "file-2")
    known_vectors = world.store.known_vectors

    async def detach_first(*arguments: Any) -> Any:
        await world.vector_stores.detach(key.tenant_id, key.vector_store_id, key.file_id)
        return await known_vectors(*arguments)

    world.store.known_vectors = detach_first  # type: ignore[method-assign, assignment]
    summary = await world.ingestion().run(key)

    assert summary is not None
    assert (summary.result, summary.chunks, summary.reused) == (RunResult.LOST, 0, 0)


async def test_a_cancelled_run_releases_its_claim(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    reached = asyncio.Event()

    class SlowEmbedder(FakeEmbedder):
        async def embed(self, texts: Any) -> Any:
            reached.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(world.ingestion(embedder=SlowEmbedder()).run(key))
    await reached.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert running.cancelled()
    assert world.row(key).crashes == 0
    summary = await world.ingestion().run(key)
    assert summary is not None
    assert summary.result is RunResult.COMPLETED


async def test_a_large_file_yields_to_other_tenants_and_continues_where_it_stopped(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    queue = FairQueue()
    turns = world.ingestion(has_other_tenants=queue.has_other_tenants, yield_after_chunks=4)
    queue.put(AttachmentKey("ten_other", "vs_1", "file-1"))

    first = await turns.run(key)

    assert first is not None
    assert (first.result, first.reason, first.chunks) == (RunResult.POSTPONED, "yielded", 4)
    row = world.row(key)
    assert (row.crashes, row.retries, row.due_at) == (0, 0, world.database.clock.now())
    second = await turns.run(key)
    assert second is not None
    assert (second.result, second.chunks) == (RunResult.COMPLETED, 3)
    assert [item.chunk.text for item in row.stored] == PAGES
    assert [len(texts) for texts in world.embedder.calls] == [2, 2, 2, 1]


async def test_a_large_file_does_not_yield_to_its_own_tenant(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    queue = FairQueue()
    queue.put(AttachmentKey(key.tenant_id, "vs_1", "file-of-the-same-tenant"))

    summary = await world.ingestion(has_other_tenants=queue.has_other_tenants, yield_after_chunks=2).run(key)

    assert summary is not None
    assert (summary.result, summary.chunks) == (RunResult.COMPLETED, 7)


async def test_two_runs_at_once_index_a_file_once(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))

    summarys = await asyncio.gather(world.ingestion().run(key), world.ingestion().run(key))

    assert sorted(summary is None for summary in summarys) == [False, True]
    assert [item.chunk.text for item in world.row(key).stored] == PAGES


async def test_after_a_database_error_the_file_is_claimed_again_when_its_lease_ends(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))

    class FailingStore(FakeIngestionStore):
        async def add_chunks(self, *_: Any) -> Any:
            raise Unavailable("the database does not answer")

        async def release(self, *_: Any, **__: Any) -> None:
            raise Unavailable("the database does not answer")

    with pytest.raises(Unavailable):
        await world.ingestion(store=FailingStore(world.database)).run(key)
    world.database.clock.advance(LEASE)
    await world.ingestion().run(key)

    assert world.row(key).state is AttachmentState.COMPLETED
