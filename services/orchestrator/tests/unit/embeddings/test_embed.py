"""Texts to vectors, priced and settled as chat completions are."""

import asyncio
from typing import Any

import pytest
from chassis.errors import ArgosyError, InvalidRequest, Kind, RemoteError, Unavailable
from orchestrator.chat.model import RequestTooLarge
from orchestrator.routing.model import ALL_TENANTS, ModelNotFound, RouteCandidate, RouteEntry, Task
from orchestrator.workers.model import EmbeddingResult
from values.embeddings import EmbeddingInput
from values.usage import NO_USAGE, UNKNOWN_USAGE, TokenUsage

from services.orchestrator.tests.fakes import MINILM, FakeMeteringClient, FakeWorkerClient, route_table
from services.orchestrator.tests.harness import LIMITS, Harness, reported, worker_finished


def a_harness(*vectors: bytes) -> Harness:
    return Harness(FakeWorkerClient(embedding=EmbeddingResult(vectors, worker_finished(reported(2, 0)))))


async def test_vectors_come_with_their_cost_and_the_usage_is_recorded() -> None:
    harness = a_harness(b"\0\0\0\0", b"\0\0\x80?")

    embedded = await harness.embed("a", "b", dimensions=128)

    assert embedded.vectors == (b"\0\0\0\0", b"\0\0\x80?")
    assert embedded.priced.cost == 2 * 10
    plan = harness.worker.embedding_plans[0]
    assert (plan.inputs, plan.dimensions) == (("a", "b"), 128)
    (attempt,) = (await harness.usage).attempts
    assert (attempt.price.key, attempt.usage) == ("minilm/all-minilm-l6-v2", reported(2, 0))


@pytest.mark.parametrize(
    ("inputs", "more", "param"),
    [
        ((), {}, "input"),
        (("a", ""), {}, "input"),
        (("a",) * 2049, {}, "input"),
        (((1,), ()), {}, "input"),
        (((1,), (-1,)), {}, "input"),
        (((2**31,),), {}, "input"),
        (((1,),) * 2049, {}, "input"),
        (("a",), {"dimensions": -1}, "dimensions"),
        (("a",), {"dimensions": 70_000}, "dimensions"),
        (("a",), {"request_id": ""}, "request_id"),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    inputs: tuple[EmbeddingInput, ...], more: dict[str, Any], param: str | None
) -> None:
    harness = a_harness()

    with pytest.raises(InvalidRequest) as refused:
        await harness.embed(*inputs, **more)

    assert refused.value.param == param
    assert not harness.metering.reserved


async def test_token_ids_go_to_the_worker_and_more_is_reserved_than_their_number() -> None:
    harness = a_harness(b"\0\0\0\0", b"\0\0\x80?")

    await harness.embed((9906, 1917), (3,))

    (plan,) = harness.worker.embedding_plans
    assert plan.inputs == ((9906, 1917), (3,))
    # 16 bytes of text for each id, 128 for each input, and the 8 tokens around it.
    assert plan.candidates[0].bound.input_tokens == 3 * 16 + 2 * 128 + 2 * 8


async def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(RequestTooLarge):
        await a_harness().embed((1,) * (LIMITS.max_embedding_bytes // 4 + 1))
    with pytest.raises(RequestTooLarge):
        await a_harness().embed("ü" * LIMITS.max_embedding_bytes)


async def test_a_chat_model_does_not_embed() -> None:
    with pytest.raises(ModelNotFound):
        await a_harness().embed("a", model="smollm2")


async def test_an_unpriced_model_is_refused_before_the_worker_is_called() -> None:
    harness = Harness(FakeWorkerClient(), FakeMeteringClient(prices={}))

    with pytest.raises(RemoteError):
        await harness.embed("a")

    assert not harness.worker.embedding_plans


async def test_a_failed_plan_is_an_error_and_its_attempts_are_recorded() -> None:
    failed = worker_finished(UNKNOWN_USAGE, error=RemoteError(Kind.UPSTREAM, "UPSTREAM_FAILED", "no"))
    harness = Harness(FakeWorkerClient(embedding=EmbeddingResult((), failed)))

    with pytest.raises(RemoteError) as error:
        await harness.embed("a")

    assert (error.value.kind, error.value.reason) == (Kind.UPSTREAM, "UPSTREAM_FAILED")
    assert (await harness.usage).attempts[0].usage == UNKNOWN_USAGE
    assert not harness.crashes


async def test_an_unavailable_worker_releases_the_money() -> None:
    harness = a_harness()
    harness.worker.unavailable = Unavailable("the worker does not answer")

    with pytest.raises(Unavailable):
        await harness.embed("a")

    assert (await harness.usage).attempts == ()


async def test_a_worker_that_refuses_releases_the_money() -> None:
    harness = Harness(FakeWorkerClient(embedding=RemoteError(Kind.INVALID, "INVALID_REQUEST", "no such dimensions")))

    with pytest.raises(RemoteError):
        await harness.embed("a")

    assert (await harness.usage).attempts == ()


async def test_a_worker_that_dies_leaves_a_call_of_unknown_usage() -> None:
    harness = Harness(FakeWorkerClient(embedding=Unavailable("it is down")))

    with pytest.raises(Unavailable):
        await harness.embed("a")

    assert (await harness.usage).attempts[0].usage == UNKNOWN_USAGE


async def test_our_bug_still_settles_the_call() -> None:
    harness = Harness(FakeWorkerClient(embedding=RuntimeError("a bug")))

    with pytest.raises(RuntimeError):
        await harness.embed("a")

    assert (await harness.usage).attempts[0].usage == UNKNOWN_USAGE


async def test_the_usage_of_a_disconnected_caller_is_recorded() -> None:
    harness = a_harness(b"\0\0\0\0")
    harness.worker.embed_gate = asyncio.Event()
    waiting = asyncio.ensure_future(harness.embed("a"))
    while not harness.worker.embedding_plans:
        await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert harness.tasks.detached == 1
    harness.worker.embed_gate.set()
    assert (await harness.usage).attempts[0].usage == reported(2, 0)


TWO = route_table(
    RouteEntry(ALL_TENANTS, "all-minilm-l6-v2", Task.EMBEDDING, (MINILM, RouteCandidate("dear", "model"))),
)
FAILED = RemoteError(Kind.UPSTREAM, "UPSTREAM_FAILED", "no")
ANSWERED = EmbeddingResult((b"\0\0\0\0",), worker_finished(reported(2, 0)))


def failed(usage: TokenUsage = NO_USAGE, *, retry_same: bool = False, fallback: bool = True) -> EmbeddingResult:
    return EmbeddingResult((), worker_finished(usage, error=FAILED), retry_same, fallback)


def scripted(*results: EmbeddingResult | Exception) -> Harness:
    return Harness(FakeWorkerClient(embedding=results), routes=TWO)


async def test_each_attempt_is_a_call_of_its_own_and_on_record_before() -> None:
    harness = scripted(failed(UNKNOWN_USAGE), ANSWERED)

    embedded = await harness.embed("a")

    assert embedded.vectors == (b"\0\0\0\0",)
    plans = harness.worker.embedding_plans
    assert [[one.upstream for one in plan.candidates] for plan in plans] == [["minilm"], ["dear"]]
    (start,) = harness.metering.starts
    assert (start.number, start.bound, [one.usage for one in start.ended]) == (2, 1, [UNKNOWN_USAGE])
    attempts = (await harness.usage).attempts
    assert [(one.number, one.price.key, one.usage) for one in attempts] == [
        (1, "minilm/all-minilm-l6-v2", UNKNOWN_USAGE),
        (2, "dear/model", reported(2, 0)),
    ]


async def test_a_dropped_connection_is_tried_once_more_as_an_attempt() -> None:
    harness = scripted(failed(retry_same=True), failed(retry_same=True), ANSWERED)

    await harness.embed("a")

    assert [(start.number, start.bound) for start in harness.metering.starts] == [(2, 0), (3, 1)]


async def test_a_rejected_input_is_tried_nowhere_else() -> None:
    harness = scripted(failed(fallback=False), ANSWERED)

    with pytest.raises(RemoteError):
        await harness.embed("a")

    assert len(harness.worker.embedding_plans) == 1


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "spent"), "INSUFFICIENT_QUOTA"),
        (Unavailable("metering does not answer"), "UPSTREAM_FAILED"),
    ],
)
async def test_an_attempt_that_is_not_on_record_is_not_made(refusal: ArgosyError, reason: str) -> None:
    harness = scripted(failed(), ANSWERED)
    harness.metering.start_failure = refusal

    with pytest.raises(ArgosyError) as error:
        await harness.embed("a")

    assert error.value.reason == reason
    assert len(harness.worker.embedding_plans) == 1
    assert all(one.usage == NO_USAGE for one in (await harness.usage).attempts)


@pytest.mark.parametrize(
    ("end", "second"),
    [
        (Unavailable("it is down"), UNKNOWN_USAGE),
        # The answer was too large for a message: its provider call was made.
        (RemoteError(Kind.TOO_LARGE, "RESOURCE_EXHAUSTED", "a response of 25 MB"), UNKNOWN_USAGE),
        (RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "at capacity"), NO_USAGE),
    ],
)
async def test_a_worker_that_fails_in_the_second_call_leaves_both(end: Exception, second: TokenUsage) -> None:
    harness = scripted(failed(), end)

    with pytest.raises(ArgosyError):
        await harness.embed("a")

    attempts = (await harness.usage).attempts
    assert [(one.number, one.usage) for one in attempts] == [(1, NO_USAGE), (2, second)]
