"""What switches do to requests: before anything is reserved or called, at both doors."""

from datetime import timedelta
from typing import Any

import orjson
import pytest
from chassis.errors import Kind
from chassis.ids import new_id
from orchestrator.batches.create import BatchLimits, CreateBatch
from orchestrator.batches.lines import FileLimits
from orchestrator.batches.model import NewBatch
from orchestrator.chat.prepare import check
from orchestrator.embeddings.prepare import check_embedding
from orchestrator.flags.model import FeatureDisabled, Flag, Rule
from orchestrator.flags.snapshot import FlagCache
from orchestrator.jobs.model import Endpoint
from orchestrator.jobs.work import JobWork
from orchestrator.routing.model import ALL_TENANTS, RouteCandidate, RouteEntry, Task
from orchestrator.workers.model import Chunk, Started

from services.orchestrator.tests.fake_batches import FakeBatchStore, FakeFileStore
from services.orchestrator.tests.fake_flags import FakeFlagStore, snapshot_of, switch
from services.orchestrator.tests.fakes import MINILM, SMOLLM2, FakeWorkerClient, route_table
from services.orchestrator.tests.harness import HELLO, LIMITS, Harness, reported, worker_finished

ANSWER = (Started(0), Chunk([b'{"a":1}']), worker_finished(reported(1, 1)))
DEAR = RouteCandidate("dear", "model", 512)
TWO = route_table(
    RouteEntry(ALL_TENANTS, "smollm2", Task.CHAT, (SMOLLM2, DEAR)),
    RouteEntry(ALL_TENANTS, "all-minilm-l6-v2", Task.EMBEDDING, (MINILM,)),
)
RETRIEVAL = {"vector_store_ids": ["vs_1"]}


def with_flags(*flags: Flag, **changes: Any) -> Harness:
    cache = FlagCache(FakeFlagStore(), snapshot_of(*flags))
    return Harness(FakeWorkerClient(*ANSWER), routes=TWO, flags=cache, **changes)


def off(key: str, **targets: Any) -> Flag:
    return switch(key, Rule(variant="off", **targets)) if targets else switch(key, default="off")


@pytest.mark.parametrize("key", ["feature.chat", "model.smollm2"])
async def test_a_chat_that_is_off_costs_nothing_and_names_the_flag(key: str) -> None:
    harness = with_flags(off(key))

    with pytest.raises(FeatureDisabled) as refused:
        await harness.generate()

    assert (refused.value.kind, refused.value.code, refused.value.param) == (Kind.DENIED, "feature_disabled", key)
    assert key.partition(".")[2] in refused.value.message
    assert not harness.metering.reserved
    assert not harness.worker.plans


@pytest.mark.parametrize("key", ["feature.embeddings", "model.all-minilm-l6-v2", "upstream.minilm"])
async def test_an_embedding_that_is_off_costs_nothing(key: str) -> None:
    harness = with_flags(off(key))

    with pytest.raises(FeatureDisabled) as refused:
        await harness.embed("a")

    assert refused.value.param == key
    assert not harness.metering.reserved


async def test_a_switch_by_tenant_or_plan_leaves_others_alone() -> None:
    harness = with_flags(
        off("feature.chat", tenants=frozenset({"ten_other"})), off("model.smollm2", plans=frozenset({"no such plan"}))
    )

    assert await harness.generate()


async def test_candidates_of_an_upstream_that_is_off_are_passed_over_before_the_reservation() -> None:
    harness = with_flags(off("upstream.local"))

    await harness.generate()

    bounds, _ = harness.metering.reserved["req_1"]
    assert [bound.price_key for bound in bounds] == ["dear/model"]
    assert [candidate.upstream for candidate in harness.worker.plans[-1].candidates] == ["dear"]


async def test_an_upstream_is_off_for_one_model_only() -> None:
    harness = with_flags(off("upstream.local", models=frozenset({"another"})))

    await harness.generate()

    assert [candidate.upstream for candidate in harness.worker.plans[-1].candidates] == ["local", "dear"]


async def test_without_any_upstream_left_the_answer_names_the_first() -> None:
    harness = with_flags(off("upstream.local"), off("upstream.dear"))

    with pytest.raises(FeatureDisabled) as refused:
        await harness.generate()

    assert refused.value.param == "upstream.local"
    assert not harness.metering.reserved


@pytest.mark.parametrize(
    ("tools", "disabled"),
    [
        ([{"type": "function", "function": {"name": "search_web"}}], True),
        ([{"type": "custom", "custom": {"name": "search_web"}}], True),
        ([{"type": "function", "function": {"name": "add"}}], False),
    ],
)
async def test_a_request_with_a_tool_that_is_off_is_refused(tools: list[object], *, disabled: bool) -> None:
    harness = with_flags(off("tool.search_web"))
    request = harness.request({**HELLO, "tools": tools})

    if not disabled:
        assert await check(request, routes=harness.completions.routes, limits=LIMITS, flags=harness.flags)
        return
    with pytest.raises(FeatureDisabled) as refused:
        await check(request, routes=harness.completions.routes, limits=LIMITS, flags=harness.flags)
    assert refused.value.param == "tool.search_web"


async def test_retrieval_that_is_off_is_left_out_where_the_request_allows_and_refused_where_not() -> None:
    harness = with_flags(off("feature.retrieval"))

    await harness.generate({**HELLO, "argosy": {"retrieval": {**RETRIEVAL, "optional": True}}})
    with pytest.raises(FeatureDisabled) as refused:
        await harness.generate({**HELLO, "argosy": {"retrieval": RETRIEVAL}}, request_id="req_2")

    assert refused.value.param == "feature.retrieval"
    assert not harness.retrieval.searches


async def test_the_flags_that_were_evaluated_are_recorded_with_the_request() -> None:
    harness = with_flags(switch("feature.chat"), off("upstream.local"), switch("model.another"))
    request = harness.request()

    await check(request, routes=harness.completions.routes, limits=LIMITS, flags=harness.flags)

    assert request.flags == {"feature.chat": "on", "upstream.local": "off"}


async def test_the_check_of_a_job_refuses_what_the_synchronous_door_refuses() -> None:
    harness = with_flags(off("feature.embeddings"), off("model.smollm2"))

    with pytest.raises(FeatureDisabled):
        await check(harness.request(), routes=harness.completions.routes, limits=LIMITS, flags=harness.flags)
    embedding = harness.embed_request("a")
    with pytest.raises(FeatureDisabled):
        check_embedding(embedding, routes=harness.embeddings.routes, limits=LIMITS, flags=harness.flags)


@pytest.mark.parametrize("endpoint", Endpoint)
async def test_without_jobs_no_job_is_accepted_and_one_that_was_is_still_prepared(endpoint: Endpoint) -> None:
    harness = with_flags(off("feature.jobs"))
    work = JobWork(
        routes=harness.completions.routes,
        retrieval=harness.retrieval,
        reservations=harness.completions.reservations,
        clock=harness.clock,
        limits=LIMITS,
        flags=harness.flags,
    )
    embedding = {"model": "all-minilm-l6-v2", "input": "a"}
    body = orjson.dumps(HELLO if endpoint is Endpoint.CHAT else embedding)

    with pytest.raises(FeatureDisabled) as refused:
        await work.check(harness.principal, "job_1.1", endpoint, body)
    prepared = await work.prepare(harness.principal, "job_1.1", endpoint, body, timedelta(minutes=1))

    assert refused.value.param == "feature.jobs"
    assert prepared.plan.candidates


async def test_without_batches_no_batch_is_accepted() -> None:
    harness = with_flags(off("feature.batches"))
    limits = BatchLimits(FileLimits(1, 1), 1, 1)
    create = CreateBatch(FakeBatchStore(), FakeFileStore(), limits, harness.flags)
    new = NewBatch(new_id("batch_"), Endpoint.EMBEDDINGS, "file-1")

    with pytest.raises(FeatureDisabled) as refused:
        await create(harness.principal, new)

    assert refused.value.param == "feature.batches"


@pytest.mark.parametrize("key", ["feature.chat", "model.smollm2"])
async def test_a_model_that_is_off_for_the_caller_is_not_listed(key: str) -> None:
    harness = with_flags(off(key))

    assert await harness.list_models() == ["all-minilm-l6-v2"]


async def test_a_model_is_listed_while_one_of_its_upstreams_is_on() -> None:
    assert "smollm2" in await with_flags(off("upstream.local")).list_models()
    assert "smollm2" not in await with_flags(off("upstream.local"), off("upstream.dear")).list_models()


async def test_a_model_that_is_off_for_others_is_listed() -> None:
    harness = with_flags(off("model.smollm2", tenants=frozenset({"ten_other"})))

    assert await harness.list_models() == ["all-minilm-l6-v2", "smollm2"]
