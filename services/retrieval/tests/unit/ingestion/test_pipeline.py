"""A large file is embedded ahead of what is stored: in order, paid for once, with nothing lost when it yields."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chassis.errors import Kind, RemoteError
from retrieval.ingestion.model import RunResult
from retrieval.vector_stores.model import AttachmentState

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.fakes import FakeIngestionStore
from services.retrieval.tests.ingestion_world import PAGES, IngestionWorld

SPENT = RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent")


class HeldEmbedder(FakeEmbedder):
    """Answers a call when the test lets it go on; `running` are the first words of the texts of those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, asyncio.Event] = {}
        self.most = 0

    async def embed(self, texts: Any) -> Any:
        name = texts[0].split()[0]
        self.running[name] = asyncio.Event()
        self.most = max(self.most, len(self.running))
        try:
            await self.running[name].wait()
        finally:
            del self.running[name]
        return await super().embed(texts)

    async def release(self, name: str) -> None:
        """Wait for the call and let it go on."""
        async with asyncio.timeout(5):
            while name not in self.running:
                await asyncio.sleep(0)
        self.running[name].set()


@pytest.fixture
def world() -> IngestionWorld:
    return IngestionWorld()


async def test_the_next_piece_is_embedded_while_one_is_stored(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    embedder, stores = HeldEmbedder(), asyncio.Event()

    class SlowStore(FakeIngestionStore):
        async def add_chunks(self, claim: Any, batch: Any, *arguments: Any) -> Any:
            if batch[0].chunk.ordinal == 1:
                await stores.wait()
            return await super().add_chunks(claim, batch, *arguments)

    running = asyncio.create_task(world.ingestion(store=SlowStore(world.database), embedder=embedder).run(key))
    await embedder.release("p0w0")
    await embedder.release("p1w0")
    await embedder.release("p2w0")
    assert len(world.row(key).stored) == 1
    assert len(world.embedder.calls) == 0
    stores.set()
    for page in range(3, 7):
        await embedder.release(f"p{page}w0")
    summary = await running

    assert summary is not None
    assert (summary.result, summary.chunks, embedder.most) == (RunResult.COMPLETED, 7, 2)


async def test_pieces_are_stored_in_order_although_a_later_one_has_its_vectors_first(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    embedder = HeldEmbedder()
    running = asyncio.create_task(world.ingestion(embedder=embedder).run(key))
    await embedder.release("p0w0")

    await embedder.release("p2w0")
    await asyncio.sleep(0.01)
    assert [item.chunk.ordinal for item in world.row(key).stored] == [0]
    await embedder.release("p1w0")
    for page in range(3, 7):
        await embedder.release(f"p{page}w0")
    await running

    assert [item.chunk.text for item in world.row(key).stored] == PAGES


async def test_text_that_is_being_embedded_is_not_paid_for_again(world: IngestionWorld) -> None:
    key = await world.attach("\n".join([PAGES[0], PAGES[1], PAGES[1], PAGES[2], PAGES[1]]))

    summary = await world.ingestion().run(key)

    assert summary is not None
    assert (summary.chunks, summary.reused) == (5, 2)
    assert sorted(text for texts in world.embedder.calls for text in texts) == sorted(PAGES[:3])


async def test_what_an_earlier_call_holds_of_the_budget_does_not_fail_the_file(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))

    class OneReservation(FakeEmbedder):
        """A budget with room for one call at a time."""

        held = False

        async def embed(self, texts: Any) -> Any:
            if self.held:
                raise SPENT
            self.held = True
            await asyncio.sleep(0.001)
            self.held = False
            return await super().embed(texts)

    summary = await world.ingestion(embedder=OneReservation()).run(key)

    assert summary is not None
    assert (summary.result, summary.chunks) == (RunResult.COMPLETED, 7)


async def test_a_budget_that_is_spent_fails_the_file(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))

    class SpentLater(FakeEmbedder):
        async def embed(self, texts: Any) -> Any:
            if len(self.calls) == 3:
                raise SPENT
            return await super().embed(texts)

    await world.ingestion(embedder=SpentLater()).run(key)

    assert (world.row(key).state, world.row(key).reason) == (AttachmentState.FAILED, "insufficient_quota")


async def test_a_file_that_yields_loses_no_vectors(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    ingestion = world.ingestion(yield_after_chunks=3, has_other_tenants=lambda _: True)

    summaries = [await ingestion.run(key) for _ in range(3)]

    assert [summary and summary.chunks for summary in summaries] == [3, 3, 1]
    assert sorted(text for texts in world.embedder.calls for text in texts) == sorted(PAGES)


async def test_a_cancelled_run_gives_its_calls_up(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    embedder = HeldEmbedder()
    running = asyncio.create_task(world.ingestion(embedder=embedder).run(key))
    await embedder.release("p0w0")
    async with asyncio.timeout(5):
        while len(embedder.running) < 2:
            await asyncio.sleep(0)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(0)

    assert embedder.running == {}
    assert (len(world.row(key).stored), world.row(key).crashes) == (1, 0)
