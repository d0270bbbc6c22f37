"""The contract of a worker client, kept by the fake and by the real client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from chassis.errors import DeadlineExceeded, Kind, RemoteError
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from orchestrator.errors import is_refusal
from orchestrator.reservations.model import TokenBound
from orchestrator.usage.model import Attempt
from orchestrator.workers.model import (
    CallOutcome,
    Candidate,
    Chunk,
    EmbeddingPlan,
    EmbeddingResult,
    Event,
    Finished,
    Plan,
    ProviderCall,
    RerankPlan,
    RerankResult,
    Started,
)
from orchestrator.workers.ports import WorkerClient
from orchestrator.workers.worker_client import GrpcWorkerClient
from values.usage import UNKNOWN_USAGE, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import FakeWorkerClient
from services.orchestrator.tests.in_memory_peers import InMemoryWorker

SECOND = timedelta(seconds=1)
CANDIDATE = Candidate("local", "m", TokenBound("local/m", 10, 20), b'{"a":1}')
PLAN = Plan("req_1", (CANDIDATE,), True, 9 * SECOND, 3 * SECOND, 2 * SECOND)
EMBEDDING_PLAN = EmbeddingPlan("req_1", (CANDIDATE._replace(body=b""),), ("a",), 0, 9 * SECOND)
RERANK_PLAN = RerankPlan("req_1", (CANDIDATE._replace(body=b""),), "q", ("a", "b"), 9 * SECOND)
FINISHED = Finished(
    (Attempt(1, 0, TokenUsage(UsageSource.REPORTED, 0, 0)), Attempt(2, 1, TokenUsage(UsageSource.REPORTED, 7, 0))),
    usage_payload=b'{"usage":1}',
    calls=(ProviderCall(0, CallOutcome.REFUSED, 0.125, 0.25), ProviderCall(1, CallOutcome.SUCCEEDED, 0.25, 1.5)),
)
REFUSAL = RemoteError(Kind.THROTTLED, "TOO_MANY_PLANS", "later")


@pytest.fixture
def worker() -> FakeWorkerClient:
    return FakeWorkerClient()


@pytest.fixture(params=["fake", "grpc"])
async def client(request: pytest.FixtureRequest, worker: FakeWorkerClient) -> AsyncIterator[WorkerClient]:
    if request.param == "fake":
        yield worker
        return
    async with serving(InMemoryWorker(worker).registration) as channel:
        with as_caller(a_caller()):
            yield GrpcWorkerClient(channel)


async def read_all(client: WorkerClient) -> list[Event]:
    events: list[Event] = []
    async with client.infer(PLAN) as call:
        while not events or not isinstance(events[-1], Finished):
            events.append(await call.read())
    return events


async def test_events_come_in_order_and_end_with_finished(client: WorkerClient, worker: FakeWorkerClient) -> None:
    worker.script = (Started(0), Chunk([b"1", b"2"]), FINISHED)

    await client.wait_ready(60 * SECOND)
    started, chunk, finished = await read_all(client)

    assert (started, finished) == (Started(0), FINISHED)
    assert isinstance(chunk, Chunk)
    assert list(chunk.payloads) == [b"1", b"2"]
    assert worker.plans[0].candidates[0].body == CANDIDATE.body


async def test_without_time_no_worker_is_waited_for(client: WorkerClient) -> None:
    with pytest.raises(DeadlineExceeded):
        await client.wait_ready(timedelta(0))


async def test_a_stopped_plan_still_finishes(client: WorkerClient, worker: FakeWorkerClient) -> None:
    worker.script, worker.stopped = (Started(0), asyncio.Event()), FINISHED

    async with client.infer(PLAN) as call:
        await call.read()
        call.stop()
        finished = await call.read()

    assert finished == FINISHED
    assert worker.calls[0].was_stopped


async def test_the_error_of_a_plan_is_in_finished(client: WorkerClient, worker: FakeWorkerClient) -> None:
    error = RemoteError(Kind.TIMED_OUT, "UPSTREAM_TIMED_OUT", "too slow", param="model", retry_after=SECOND)
    worker.script = (Finished((Attempt(1, 0, UNKNOWN_USAGE),), error),)

    (finished,) = await read_all(client)

    assert isinstance(finished, Finished)
    raised = finished.error
    assert isinstance(raised, RemoteError)
    assert (raised.kind, raised.reason, raised.message) == (error.kind, error.reason, error.message)
    assert (raised.param, raised.retry_after) == ("model", SECOND)


async def test_a_refused_plan_raises(client: WorkerClient, worker: FakeWorkerClient) -> None:
    worker.script = (REFUSAL,)

    with pytest.raises(RemoteError) as refused:
        await read_all(client)

    assert (refused.value.kind, refused.value.reason) == (Kind.THROTTLED, "TOO_MANY_PLANS")
    assert is_refusal(refused.value)


async def test_an_embedding_has_a_vector_for_each_input(client: WorkerClient, worker: FakeWorkerClient) -> None:
    worker.embedding = EmbeddingResult((b"\0\0\0\0",), FINISHED._replace(usage_payload=b"", calls=()))

    assert await client.embed(EMBEDDING_PLAN) == worker.embedding
    assert worker.embedding_plans[0].inputs == ("a",)


async def test_each_document_has_a_score(client: WorkerClient, worker: FakeWorkerClient) -> None:
    worker.scores = RerankResult((0.25, 1.0), FINISHED._replace(usage_payload=b"", calls=()))

    assert await client.rerank(RERANK_PLAN) == worker.scores
    assert (worker.rerank_plans[0].query, worker.rerank_plans[0].documents) == ("q", ("a", "b"))


async def test_failed_scores_say_what_may_help(client: WorkerClient, worker: FakeWorkerClient) -> None:
    failed = FINISHED._replace(usage_payload=b"", calls=(), error=REFUSAL)
    worker.scores = RerankResult((), failed, retry_same=True, fallback=True)

    result = await client.rerank(RERANK_PLAN)

    assert (result.scores, result.retry_same, result.fallback) == ((), True, True)
    assert result.finished.error is not None
    assert result.finished.error.reason == "TOO_MANY_PLANS"


async def test_a_refused_embedding_raises(client: WorkerClient, worker: FakeWorkerClient) -> None:
    worker.embedding = REFUSAL

    with pytest.raises(RemoteError) as refused:
        await client.embed(EMBEDDING_PLAN)

    assert is_refusal(refused.value)
