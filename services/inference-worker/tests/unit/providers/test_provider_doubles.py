"""Every provider's habits, streamed and not: the client gets the same answer, and the books are the provider's."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from chassis.clock import SystemClock
from inference_worker.plans.model import AttemptOutcome
from inference_worker.plans.run import PlanRun
from inference_worker.providers.anthropic.chat import AnthropicProvider
from inference_worker.providers.assemble import CompletionAssembler
from inference_worker.providers.openai.chat import OpenaiProvider
from inference_worker.providers.ports import Upstream
from inference_worker.providers.transport.http import Endpoint, HttpClient
from values.usage import TokenUsage, UsageSource
from worker_fakes import FakeCounter, FakeObserver, RecordedRun, a_candidate, a_plan, record

from tests.simulators.providers import DOUBLES, TEXT, THOUGHT, Charged, Double
from tests.simulators.upstream import UpstreamSimulator

ALL = pytest.mark.parametrize("double", DOUBLES.values(), ids=DOUBLES)


@asynccontextmanager
async def an_upstream_of(double: Double, simulator: UpstreamSimulator) -> AsyncIterator[Upstream]:
    base_url = simulator.url if double.name == "anthropic" else f"{simulator.url}/v1"
    async with HttpClient(Endpoint(base_url, {})) as client:
        provider = AnthropicProvider(client, SystemClock()) if double.name == "anthropic" else OpenaiProvider(client)
        yield Upstream(FakeCounter(), provider=provider)


async def ask(double: Double, simulator: UpstreamSimulator, *, stream: bool, options: str = "") -> RecordedRun:
    """Run a plan whose second candidate answers as OpenAI does."""
    async with an_upstream_of(double, simulator) as first, an_upstream_of(DOUBLES["openai"], simulator) as second:
        candidates = (
            a_candidate(f"as-{double.name}{options}", "first", stream=stream),
            a_candidate("as-openai", "second", stream=stream),
        )
        plan = a_plan(*candidates, stream=stream)
        upstreams = {"first": first, "second": second}
        return await record(PlanRun(plan, upstreams=upstreams, clock=SystemClock(), observer=FakeObserver()))


def books(charged: Charged) -> TokenUsage:
    return TokenUsage(UsageSource.REPORTED, charged.input_tokens, charged.output_tokens, charged.details)


def message_of(recorded: RecordedRun, *, stream: bool) -> dict[str, Any]:
    """The complete completion, put together if it was streamed."""
    if not stream:
        (body,) = recorded.payloads
        complete: dict[str, Any] = json.loads(body)
        return complete
    assembler = CompletionAssembler()
    for payload in recorded.payloads:
        assembler.add(payload)
    assembled: dict[str, Any] = json.loads(assembler.result(recorded.finished.usage_payload))
    return assembled


@ALL
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_the_same_and_the_books_agree_with_the_providers_journal(
    double: Double, stream: bool, simulator: UpstreamSimulator
):
    recorded = await ask(double, simulator, stream=stream)

    assert recorded.finished.error is None
    (attempt,) = recorded.finished.attempts
    (charged,) = simulator.journal
    assert attempt.usage == books(charged)
    completion = message_of(recorded, stream=stream)
    (choice,) = completion["choices"]
    assert choice["message"]["content"] == TEXT
    assert choice["finish_reason"] == "stop"
    reasoning = choice["message"].get("reasoning_content") or choice["message"].get("reasoning")
    assert reasoning == (THOUGHT if double.reasons else None)
    shown = completion["usage"]
    assert (shown["prompt_tokens"], shown["completion_tokens"]) == (charged.input_tokens, charged.output_tokens)
    assert shown["total_tokens"] == charged.input_tokens + charged.output_tokens


@ALL
async def test_a_stream_has_one_id_one_model_one_role_and_no_usage_in_its_chunks(
    double: Double, simulator: UpstreamSimulator
):
    recorded = await ask(double, simulator, stream=True)

    chunks = [json.loads(payload) for payload in (*recorded.payloads, recorded.finished.usage_payload)]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks}) == 1
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"]
    assert [chunk for chunk in chunks if chunk.get("usage")] == chunks[-1:]
    assert chunks[-1]["choices"] == []


@ALL
async def test_a_merged_stream_is_the_answer_that_is_not_streamed_field_for_field(
    double: Double, simulator: UpstreamSimulator
):
    streamed = message_of(await ask(double, simulator, stream=True), stream=True)
    complete = message_of(await ask(double, simulator, stream=False), stream=False)

    for name in ("id", "object", "model", "usage"):
        assert streamed[name] == complete[name]
    (first,), (second,) = streamed["choices"], complete["choices"]
    assert first["finish_reason"] == second["finish_reason"]
    # OpenAI's own streams have no field for what is null or empty.
    kept = [{name: value for name, value in choice["message"].items() if value} for choice in (first, second)]
    assert kept[0] == kept[1]


@ALL
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_in_place_of_the_answer_costs_nothing_and_the_next_candidate_answers(
    double: Double, stream: bool, simulator: UpstreamSimulator
):
    recorded = await ask(double, simulator, stream=stream, options="?fail=first")

    assert recorded.finished.error is None
    assert recorded.text == TEXT
    refused, answered = recorded.finished.attempts
    assert refused.outcome is AttemptOutcome.REJECTED
    assert [refused.usage.known, answered.usage.known] == [
        (charged.input_tokens, charged.output_tokens) for charged in simulator.journal
    ]


@ALL
async def test_an_error_within_the_answer_ends_it_as_interrupted(double: Double, simulator: UpstreamSimulator):
    recorded = await ask(double, simulator, stream=True, options="?fail=middle")

    assert recorded.finished.error is not None
    assert recorded.finished.error.reason == "UPSTREAM_INTERRUPTED"
    assert recorded.text == TEXT
    (attempt,) = recorded.finished.attempts
    assert attempt.outcome is AttemptOutcome.INTERRUPTED
