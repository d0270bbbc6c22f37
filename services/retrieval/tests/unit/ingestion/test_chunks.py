"""How a run splits a file: as it was attached, all of it, and within the quota of the plan."""

from __future__ import annotations

import pytest
from retrieval.chunking.splitter import Chunking
from retrieval.ingestion.embed import MAX_TEXTS
from retrieval.ingestion.model import RunResult
from retrieval.ingestion.windows import READ_TOKENS
from retrieval.quotas.model import Quota, Quotas

from services.retrieval.tests.ingestion_world import PAGES, IngestionWorld
from services.retrieval.tests.texts import a_vector, cosine


@pytest.fixture
def world() -> IngestionWorld:
    return IngestionWorld()


@pytest.mark.parametrize(
    ("chunking", "tokens"), [(Chunking(100, 0), 100), (Chunking(1_000, 0), 600), (Chunking(), 192)]
)
async def test_a_file_is_split_as_it_was_attached(world: IngestionWorld, chunking: Chunking, tokens: int) -> None:
    text = " ".join(f"Sentence {n} has these ten words in it, and no more." for n in range(55))[:-1] + "."
    words = text.split()[:600]
    key = await world.attach(" ".join(words), chunking=chunking)

    await world.ingestion().run(key)

    stored = [item.chunk.text for item in world.row(key).stored]
    assert max(len(chunk.split()) for chunk in stored) <= tokens
    assert max(len(chunk.split()) for chunk in stored) > tokens - 12
    if not chunking.overlap_tokens:
        assert " ".join(stored).split() == words


async def test_all_of_a_large_chunk_is_embedded_and_paid_for_once(world: IngestionWorld) -> None:
    words = [f"word{n}" for n in range(1_000)]
    key = await world.attach(" ".join(words), chunking=Chunking(4_096, 0))

    await world.ingestion().run(key)

    [stored] = world.row(key).stored
    embedded = [text for call in world.embedder.calls for text in call]
    assert " ".join(embedded).split() == words
    assert max(len(text.split()) for text in embedded) <= READ_TOKENS
    for window in embedded:
        assert cosine(stored.vector, a_vector(window)) > 0.4
    assert cosine(stored.vector, stored.vector) == pytest.approx(1.0, abs=1e-5)


async def test_a_call_embeds_a_bounded_number_of_windows(world: IngestionWorld) -> None:
    pages = ["\u0020".join(f"p{page}w{n}" for n in range(4_000)) for page in range(10)]
    key = await world.attach("\n".join(pages), chunking=Chunking(4_096, 2_048))

    await world.ingestion(batch_size=32, max_bytes=10**6).run(key)

    assert len(world.row(key).stored) == 10
    assert [len(call) for call in world.embedder.calls] == [MAX_TEXTS, MAX_TEXTS, 160 - 2 * MAX_TEXTS]


async def test_a_file_with_more_chunks_than_the_plan_allows_fails_with_a_code(world: IngestionWorld) -> None:
    key = await world.attach("\n".join(PAGES))
    quotas = Quotas(plans={"": Quota(chunks=5)})

    summary = await world.ingestion(quotas=quotas).run(key)

    assert summary is not None
    assert (summary.result, summary.reason) == (RunResult.FAILED, "storage_quota_exceeded")
    assert "allows 5 chunks" in world.row(key).message
