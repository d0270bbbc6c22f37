"""Scores of documents, priced and settled as chat completions are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from argosy.orchestration.v1 import orchestration_pb2 as pb
from chassis.errors import InvalidRequest, Kind, RemoteError, Unavailable
from orchestrator.chat.model import RequestTooLarge
from orchestrator.errors import WorkerOutdated
from orchestrator.flags.model import FeatureDisabled
from orchestrator.flags.snapshot import FlagCache
from orchestrator.routing.model import ALL_TENANTS, ModelNotFound, RouteCandidate, RouteEntry, Task
from orchestrator.workers.model import RerankResult
from values.usage import NO_USAGE, UNKNOWN_USAGE, TokenUsage

from services.orchestrator.tests.fake_flags import FakeFlagStore, snapshot_of, switch
from services.orchestrator.tests.fakes import DEMO_ENTRIES, FakeMeteringClient, FakeWorkerClient, route_table
from services.orchestrator.tests.harness import LIMITS, Harness, reported, worker_finished
from services.orchestrator.tests.unit.test_grpc import counted, serving_stub

OVERLAP = RouteCandidate("scorer", "overlap")
ROUTES = route_table(*DEMO_ENTRIES, RouteEntry(ALL_TENANTS, "overlap", Task.RERANK, (OVERLAP,)))
PRICES = {"scorer/overlap": (20_000_000, 0), "dear/model": (2_500_000_000, 0)}
SCORED = RerankResult((0.25, 1.0), worker_finished(reported(30, 0)))
FAILED = RemoteError(Kind.UPSTREAM, "UPSTREAM_FAILED", "no")


def a_harness(*scores: RerankResult | Exception, **more: Any) -> Harness:
    defaults: dict[str, Any] = {"routes": ROUTES, "metering": FakeMeteringClient(prices=PRICES)}
    return Harness(FakeWorkerClient(scores=scores or SCORED), **defaults | more)


def failed(usage: TokenUsage = NO_USAGE, *, retry_same: bool = False, fallback: bool = True) -> RerankResult:
    return RerankResult((), worker_finished(usage, error=FAILED), retry_same, fallback)


async def test_scores_come_with_their_cost_and_the_usage_is_recorded_once() -> None:
    harness = a_harness()

    ranked = await harness.rerank("a ship", "an invoice", "a ship sails")

    assert ranked.scores == (0.25, 1.0)
    assert ranked.priced.cost == 30 * 20
    (plan,) = harness.worker.rerank_plans
    assert (plan.query, plan.documents) == ("a ship", ("an invoice", "a ship sails"))
    (attempt,) = (await harness.usage).attempts
    assert (attempt.price.key, attempt.usage) == ("scorer/overlap", reported(30, 0))


async def test_more_is_reserved_than_a_reader_of_windows_can_use() -> None:
    harness = a_harness()

    await harness.rerank("abcd", "x" * 100, "y")

    bound = harness.worker.rerank_plans[0].candidates[0].bound
    # Twice the bytes of each document, and the query with its marks for each window of 48 and one more.
    assert (bound.input_tokens, bound.output_tokens) == (2 * 101 + (4 + 2) * (4 + 8), 0)


@pytest.mark.parametrize(
    ("query", "documents", "more", "param"),
    [
        ("", ("a",), {}, "query"),
        ("  ", ("a",), {}, "query"),
        ("q", (), {}, "documents"),
        ("q", ("a", ""), {}, "documents"),
        ("q", ("a",) * 1001, {}, "documents"),
        ("q", ("a",), {"request_id": ""}, "request_id"),
    ],
)
async def test_what_cannot_be_scored_is_refused_before_anything_is_reserved(
    query: str, documents: tuple[str, ...], more: dict[str, Any], param: str
) -> None:
    harness = a_harness()

    with pytest.raises(InvalidRequest) as refused:
        await harness.rerank(query, *documents, **more)

    assert refused.value.param == param
    assert not harness.metering.reserved


async def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(RequestTooLarge):
        await a_harness().rerank("q", "x" * LIMITS.max_embedding_bytes)


@pytest.mark.parametrize("model", ["smollm2", "all-minilm-l6-v2", "nothing"])
async def test_models_of_other_tasks_score_nothing(model: str) -> None:
    with pytest.raises(ModelNotFound):
        await a_harness().rerank("q", "a", model=model)


@pytest.mark.parametrize("key", ["feature.rerank", "model.overlap", "upstream.scorer"])
async def test_what_is_switched_off_costs_nothing(key: str) -> None:
    flags = FlagCache(FakeFlagStore(), snapshot_of(switch(key, default="off")))
    harness = a_harness(flags=flags)

    with pytest.raises(FeatureDisabled):
        await harness.rerank("q", "a")

    assert not harness.metering.reserved
    assert "overlap" not in await harness.list_models()


async def test_an_unpriced_model_is_refused_before_the_worker_is_called() -> None:
    harness = a_harness(metering=FakeMeteringClient(prices={}))

    with pytest.raises(RemoteError):
        await harness.rerank("q", "a")

    assert not harness.worker.rerank_plans


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (RemoteError(Kind.INVALID, "CONTEXT_LENGTH_EXCEEDED", "too long"), None),
        (WorkerOutdated("it has no such method"), None),
        (Unavailable("it is down"), UNKNOWN_USAGE),
        (failed(UNKNOWN_USAGE, fallback=False), UNKNOWN_USAGE),
        (failed(fallback=False), NO_USAGE),
    ],
)
async def test_a_failure_is_settled_as_far_as_it_is_known(
    answer: RerankResult | Exception, usage: TokenUsage | None
) -> None:
    harness = a_harness(answer)

    with pytest.raises((RemoteError, Unavailable, WorkerOutdated)):
        await harness.rerank("q", "a")

    assert [attempt.usage for attempt in (await harness.usage).attempts] == ([] if usage is None else [usage])
    assert not harness.crashes


async def test_the_next_candidate_is_tried_and_its_call_is_on_record_before() -> None:
    routes = route_table(RouteEntry(ALL_TENANTS, "overlap", Task.RERANK, (OVERLAP, RouteCandidate("dear", "model"))))
    harness = a_harness(failed(UNKNOWN_USAGE), SCORED, routes=routes)

    assert (await harness.rerank("q", "a", "b")).scores == (0.25, 1.0)

    assert [plan.candidates[0].upstream for plan in harness.worker.rerank_plans] == ["scorer", "dear"]
    assert [start.number for start in harness.metering.starts] == [2]


async def test_the_usage_of_a_disconnected_caller_is_recorded() -> None:
    harness = a_harness()
    harness.worker.embed_gate = asyncio.Event()
    waiting = asyncio.ensure_future(harness.rerank("q", "a", "b"))
    while not harness.worker.rerank_plans:
        await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    harness.worker.embed_gate.set()
    assert (await harness.usage).attempts[0].usage == reported(30, 0)


async def test_our_bug_still_settles_the_call() -> None:
    harness = a_harness(RuntimeError("a bug"))

    with pytest.raises(RuntimeError):
        await harness.rerank("q", "a")

    assert (await harness.usage).attempts[0].usage == UNKNOWN_USAGE


async def test_scores_are_sent_with_their_cost() -> None:
    before = counted("answered", "orchestrator_reranks_total")
    request = pb.RerankRequest(request_id="req_1", model="overlap", query="a ship", documents=["a", "b"])

    async with serving_stub(a_harness()) as stub:
        answer = await stub.Rerank(request)

    assert list(answer.scores) == [0.25, 1.0]
    assert (answer.usage.input_tokens, answer.cost.nano_usd) == (30, 30 * 20)
    assert counted("answered", "orchestrator_reranks_total") == before + 1
