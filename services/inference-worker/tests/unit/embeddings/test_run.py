import asyncio
from datetime import timedelta
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.embeddings.run import EmbedRequest, EmbedResult, EmbedRun
from inference_worker.plans.model import AttemptOutcome, Candidate
from inference_worker.token_counting.tiktoken import load_token_bytes
from provider_contract import until
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause, TokenUsage, UsageSource
from worker_fakes import FakeEmbedder, FakeObserver, FakeProvider, an_upstream


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def observer() -> FakeObserver:
    return FakeObserver()


@pytest.fixture
def embed(embedder: FakeEmbedder, observer: FakeObserver):
    async def run(model: str, **fields: Any) -> EmbedResult:
        upstreams = {"fake": an_upstream(embedder=embedder), "chat-only": an_upstream(FakeProvider())}
        name, _, upstream = model.partition("@")
        request = EmbedRequest(
            Candidate(upstream or "fake", name), ("a b", "c"), **{"deadline": timedelta(seconds=60), **fields}
        )
        return await EmbedRun(
            request,
            upstreams=upstreams,
            clock=FakeClock(),
            observer=observer,
            load_token_bytes=load_token_bytes,
        ).run()

    return run


async def test_every_text_gets_a_vector(embed):
    result = await embed("instant")

    assert len(result.vectors) == 2
    assert result.error is None
    assert result.attempt.usage == TokenUsage(UsageSource.REPORTED, 5, 0)


@pytest.mark.parametrize("model", ["500", "429", "cut-before"])
async def test_a_failed_call_is_one_attempt_and_its_caller_decides_on_the_next(
    embed, embedder: FakeEmbedder, model: str
):
    result = await embed(model)

    assert embedder.embedded == [model]
    assert (result.attempt.outcome, result.attempt.usage) == (AttemptOutcome.REJECTED, NO_USAGE)
    assert result.attempt.exposure_cause is None
    assert result.error is not None


@pytest.mark.parametrize("model", ["nowhere", "chat-only"])
async def test_an_upstream_without_embeddings_is_rejected(embed, model: str):
    result = await embed(f"m@{model}")

    assert result.vectors == ()
    assert result.error is not None
    assert result.error.reason == "UPSTREAM_FAILED"
    assert result.attempt.outcome is AttemptOutcome.REJECTED


async def test_unsupported_dimensions_are_an_invalid_request(embed, embedder: FakeEmbedder):
    result = await embed("instant", dimensions=2)

    assert embedder.embedded == ["instant"]
    assert result.error is not None
    assert result.error.reason == "INVALID_REQUEST"
    assert result.attempt.usage == NO_USAGE


async def test_usage_that_is_not_reported_is_counted(embed):
    result = await embed("no-usage")

    assert result.attempt.usage == TokenUsage(UsageSource.COUNTED, 3, 0)


async def test_the_deadline_ends_it_and_leaves_the_usage_unknown(embed):
    result = await embed("timeout", deadline=timedelta(seconds=0.3))

    assert result.error is not None
    assert result.error.reason == "UPSTREAM_TIMED_OUT"
    assert result.attempt.outcome is AttemptOutcome.TIMED_OUT
    assert result.attempt.usage == UNKNOWN_USAGE
    assert result.attempt.exposure_cause is ExposureCause.PROVIDER


async def test_an_invalid_response_may_have_been_billed(embed):
    result = await embed("garbage")

    assert result.attempt.outcome is AttemptOutcome.INTERRUPTED
    assert result.attempt.usage == UNKNOWN_USAGE
    assert result.attempt.exposure_cause is ExposureCause.PROVIDER


async def test_a_cancelled_embedding_is_observed(embed, embedder: FakeEmbedder, observer: FakeObserver):
    task = asyncio.create_task(embed("timeout"))
    await until(lambda: embedder.embedded)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [attempt.outcome for attempt, _ in observer.finished] == [AttemptOutcome.CANCELLED]
