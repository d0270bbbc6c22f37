import asyncio
from datetime import timedelta
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.embeddings.run import EmbedRequest, EmbedResult, EmbedRun
from inference_worker.plans.model import AttemptOutcome, Candidate
from provider_contract import until
from values.usage import NO_USAGE, UNKNOWN_USAGE, TokenUsage, UsageSource
from worker_fakes import FakeEmbedder, FakeObserver, FakeProvider, an_upstream


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def observer() -> FakeObserver:
    return FakeObserver()


@pytest.fixture
def embed(embedder: FakeEmbedder, observer: FakeObserver):
    async def run(*models: str, **fields: Any) -> EmbedResult:
        upstreams = {"fake": an_upstream(embedder=embedder), "chat-only": an_upstream(FakeProvider())}
        named = [model.partition("@") for model in models]
        candidates = tuple(Candidate(upstream or "fake", model) for model, _, upstream in named)
        request = EmbedRequest(candidates, ("a b", "c"), **{"deadline": timedelta(seconds=5), **fields})
        return await EmbedRun(request, upstreams=upstreams, clock=FakeClock(), observer=observer).run()

    return run


async def test_every_text_gets_a_vector(embed):
    result = await embed("instant")

    assert len(result.vectors) == 2
    assert result.error is None
    assert result.attempts[0].usage == TokenUsage(UsageSource.REPORTED, 5, 0)


async def test_a_failing_candidate_is_followed_by_the_next(embed, embedder: FakeEmbedder):
    result = await embed("500", "429", "instant")

    assert embedder.embedded == ["500", "429", "instant"]
    assert [attempt.outcome for attempt in result.attempts] == [
        AttemptOutcome.REJECTED,
        AttemptOutcome.REJECTED,
        AttemptOutcome.SUCCEEDED,
    ]
    assert result.attempts[0].usage == NO_USAGE
    assert result.error is None


async def test_a_dropped_connection_is_tried_once_more(embed, embedder: FakeEmbedder):
    await embed("cut-before")

    assert embedder.embedded == ["cut-before", "cut-before"]


@pytest.mark.parametrize("model", ["nowhere", "chat-only"])
async def test_an_upstream_without_embeddings_is_rejected(embed, model: str):
    result = await embed(f"m@{model}")

    assert result.vectors == ()
    assert result.error is not None
    assert result.error.reason == "UPSTREAM_FAILED"
    assert result.attempts[0].outcome is AttemptOutcome.REJECTED


async def test_unsupported_dimensions_are_an_invalid_request(embed, embedder: FakeEmbedder):
    result = await embed("instant", "instant", dimensions=2)

    assert embedder.embedded == ["instant"]
    assert result.error is not None
    assert result.error.reason == "INVALID_REQUEST"
    assert result.attempts[0].usage == NO_USAGE


async def test_usage_that_is_not_reported_is_counted(embed):
    result = await embed("no-usage")

    assert result.attempts[0].usage == TokenUsage(UsageSource.COUNTED, 3, 0)


async def test_the_deadline_ends_it_and_leaves_the_usage_unknown(embed):
    result = await embed("timeout", "instant", deadline=timedelta(seconds=0.01))

    assert result.error is not None
    assert result.error.reason == "UPSTREAM_TIMED_OUT"
    assert [attempt.outcome for attempt in result.attempts] == [AttemptOutcome.TIMED_OUT]
    assert result.attempts[0].usage == UNKNOWN_USAGE


async def test_an_invalid_response_may_have_been_billed(embed):
    result = await embed("garbage")

    assert result.attempts[0].outcome is AttemptOutcome.INTERRUPTED
    assert result.attempts[0].usage == UNKNOWN_USAGE


async def test_a_cancelled_embedding_is_observed(embed, embedder: FakeEmbedder, observer: FakeObserver):
    task = asyncio.create_task(embed("timeout"))
    await until(lambda: embedder.embedded)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [attempt.outcome for attempt, _ in observer.finished] == [AttemptOutcome.CANCELLED]
