import asyncio
from datetime import timedelta
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.domain.account import Outcome
from inference_worker.domain.embed import Embedded, EmbedRun
from inference_worker.domain.plan import Candidate, Embedding
from inference_worker.domain.usage import NOTHING, UNKNOWN, Usage, UsageSource
from provider_contract import until
from worker_fakes import FakeEmbedder, FakeJournal, FakeProvider, an_upstream


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def journal() -> FakeJournal:
    return FakeJournal()


@pytest.fixture
def embed(embedder: FakeEmbedder, journal: FakeJournal):
    async def run(*models: str, **more: Any) -> Embedded:
        upstreams = {"fake": an_upstream(embedder=embedder), "mute": an_upstream(FakeProvider())}
        named = [model.partition("@") for model in models]
        candidates = tuple(Candidate(upstream or "fake", model) for model, _, upstream in named)
        wanted = Embedding(candidates, ("a b", "c"), **{"deadline": timedelta(seconds=5), **more})
        return await EmbedRun(wanted, upstreams=upstreams, clock=FakeClock(), journal=journal).vectors()

    return run


async def test_every_text_gets_a_vector(embed):
    embedded = await embed("instant")

    assert len(embedded.vectors) == 2
    assert embedded.failure is None
    assert embedded.attempts[0].usage == Usage(UsageSource.REPORTED, 5, 0)


async def test_a_failing_candidate_is_followed_by_the_next(embed, embedder: FakeEmbedder):
    embedded = await embed("500", "429", "instant")

    assert embedder.embedded == ["500", "429", "instant"]
    assert [attempt.outcome for attempt in embedded.attempts] == [Outcome.REFUSED, Outcome.REFUSED, Outcome.ANSWERED]
    assert embedded.attempts[0].usage == NOTHING
    assert embedded.failure is None


async def test_a_dropped_connection_is_tried_once_more(embed, embedder: FakeEmbedder):
    await embed("cut-before")

    assert embedder.embedded == ["cut-before", "cut-before"]


@pytest.mark.parametrize("model", ["nowhere", "mute"])
async def test_an_upstream_that_cannot_embed_is_refused(embed, model: str):
    embedded = await embed(f"m@{model}")

    assert embedded.vectors == ()
    assert embedded.failure is not None
    assert embedded.failure.reason == "UPSTREAM_FAILED"
    assert embedded.attempts[0].outcome is Outcome.REFUSED


async def test_dimensions_that_cannot_be_had_are_the_requests_fault(embed, embedder: FakeEmbedder):
    embedded = await embed("instant", "instant", dimensions=2)

    assert embedder.embedded == ["instant"]
    assert embedded.failure is not None
    assert embedded.failure.reason == "INVALID_REQUEST"
    assert embedded.attempts[0].usage == NOTHING


async def test_usage_that_is_not_reported_is_counted(embed):
    embedded = await embed("no-usage")

    assert embedded.attempts[0].usage == Usage(UsageSource.COUNTED, 3, 0)


async def test_the_deadline_ends_it_and_leaves_the_usage_unknown(embed):
    embedded = await embed("timeout", "instant", deadline=timedelta(seconds=0.01))

    assert embedded.failure is not None
    assert embedded.failure.reason == "UPSTREAM_TIMED_OUT"
    assert [attempt.outcome for attempt in embedded.attempts] == [Outcome.TIMED_OUT]
    assert embedded.attempts[0].usage == UNKNOWN


async def test_garbage_may_have_cost_something(embed):
    embedded = await embed("garbage")

    assert embedded.attempts[0].outcome is Outcome.CUT
    assert embedded.attempts[0].usage == UNKNOWN


async def test_a_cancelled_embedding_is_written_down(embed, embedder: FakeEmbedder, journal: FakeJournal):
    task = asyncio.create_task(embed("timeout"))
    await until(lambda: embedder.embedded)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [attempt.outcome for attempt, _ in journal.ended] == [Outcome.CANCELLED]
