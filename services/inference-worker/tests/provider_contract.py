"""What every provider promises, whoever it translates for. `model` says what its upstream does."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from inference_worker.domain.failures import (
    UpstreamCut,
    UpstreamFailed,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamRefused,
)
from inference_worker.domain.ports import Answer, Provider
from inference_worker.domain.usage import Usage, UsageSource
from worker_fakes import WORDS, a_candidate, text_of

KEY = "sk-very-secret-credential"


class ProviderContract:
    """Inherit it, and say what the upstream of the `provider` saw: calls received, and calls broken off."""

    @pytest.fixture
    def provider(self) -> Provider:
        raise NotImplementedError

    def received(self) -> int:
        raise NotImplementedError

    def broken_off(self) -> int:
        raise NotImplementedError

    async def test_a_streamed_answer_is_openai_chunks_and_usage_is_kept_out_of_them(self, provider: Provider):
        payloads, answer = await said(provider, "instant", stream=True)

        assert text_of(payloads) == "".join(WORDS)
        assert [reason for reason in map(finish_of, payloads) if reason] == ["stop"]
        assert all("usage" not in json.loads(payload) for payload in payloads)
        assert answer.usage == Usage(UsageSource.REPORTED, 2, 8)
        last = json.loads(answer.usage_payload)
        assert last["choices"] == []
        assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (2, 8)

    async def test_a_whole_answer_is_one_openai_body(self, provider: Provider):
        payloads, answer = await said(provider, "instant", stream=False)

        (body,) = payloads
        assert json.loads(body)["object"] == "chat.completion"
        assert json.loads(body)["choices"][0]["finish_reason"] == "stop"
        assert text_of([body]) == "".join(WORDS)
        assert answer.usage == Usage(UsageSource.REPORTED, 2, 8)
        assert answer.usage_payload == b""

    @pytest.mark.parametrize("stream", [True, False])
    async def test_usage_that_is_not_reported_is_not_invented(self, provider: Provider, stream: bool):
        payloads, answer = await said(provider, "no-usage", stream=stream)

        assert text_of(payloads) == "".join(WORDS)
        assert answer.usage is None
        assert answer.usage_payload == b""

    async def test_a_streamed_tool_call_comes_in_openai_pieces(self, provider: Provider):
        payloads, _ = await said(provider, "tools", stream=True)

        calls = [call for payload in payloads for call in calls_of(payload)]
        assert [call["id"] for call in calls if call.get("id")] == ["call_1"] or calls[0]["id"] == "toolu_1"
        assert calls[0]["function"]["name"] == "weather"
        assert json.loads("".join(call["function"].get("arguments") or "" for call in calls)) == {"city": "Paris"}
        assert [reason for reason in map(finish_of, payloads) if reason] == ["tool_calls"]

    async def test_a_whole_tool_call_is_openais(self, provider: Provider):
        payloads, _ = await said(provider, "tools", stream=False)

        (call,) = json.loads(payloads[0])["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "weather"
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("model", "failure", "fallback"),
        [
            ("429", UpstreamRateLimited, True),
            ("500", UpstreamFailed, True),
            ("401", UpstreamFailed, True),
            ("400", UpstreamRefused, False),
        ],
    )
    async def test_an_error_status_costs_nothing_and_says_whether_others_may_do_better(
        self, provider: Provider, model: str, failure: type[UpstreamFailed], fallback: bool, stream: bool
    ):
        with pytest.raises(UpstreamFailed) as caught:
            await said(provider, model, stream=stream)

        assert type(caught.value) is failure
        assert caught.value.fallback is fallback
        assert not caught.value.may_have_cost
        assert KEY not in caught.value.message

    async def test_a_refused_request_keeps_the_upstreams_words(self, provider: Provider):
        with pytest.raises(UpstreamRefused) as caught:
            await said(provider, "400", stream=True)

        assert caught.value.message == "simulated 400"

    async def test_an_error_instead_of_the_first_chunk_is_open_to_fallback(self, provider: Provider):
        with pytest.raises(UpstreamFailed) as caught:
            await said(provider, "error-first", stream=True)

        assert caught.value.fallback
        assert not isinstance(caught.value, UpstreamCut)

    @pytest.mark.parametrize("stream", [True, False])
    async def test_garbage_is_open_to_fallback(self, provider: Provider, stream: bool):
        with pytest.raises(UpstreamFailed) as caught:
            await said(provider, "garbage", stream=stream)

        assert caught.value.fallback

    async def test_a_dropped_connection_is_open_to_fallback(self, provider: Provider):
        with pytest.raises(UpstreamFailed) as caught:
            await said(provider, "cut-before", stream=True)

        assert caught.value.fallback

    @pytest.mark.parametrize("model", ["cut", "error-event", "garbage-middle"])
    async def test_what_came_before_a_break_is_handed_on(self, provider: Provider, model: str):
        answer = await provider.open(a_candidate(model, stream=True), stream=True)
        payloads: list[bytes] = []

        with pytest.raises((UpstreamCut, UpstreamGarbage)):
            await drain(answer, payloads)

        assert text_of(payloads) == "".join(WORDS[:3])
        answer.abort()

    async def test_an_aborted_answer_is_broken_off_at_the_upstream(self, provider: Provider):
        answer = await provider.open(a_candidate("silent", stream=True), stream=True)
        payloads: list[bytes] = []
        while text_of(payloads) != "".join(WORDS[:3]):
            payloads += await answer.read()

        answer.abort()
        answer.abort()

        await until(lambda: self.broken_off() == 1)

    async def test_a_cancelled_open_leaves_nothing_open(self, provider: Provider):
        opening = asyncio.create_task(provider.open(a_candidate("timeout"), stream=True))
        await until(lambda: self.received() == 1)

        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

        await until(lambda: self.broken_off() == 1)


async def said(provider: Provider, model: str, *, stream: bool) -> tuple[list[bytes], Answer]:
    """Everything an answer says."""
    answer = await provider.open(a_candidate(model, stream=stream), stream=stream)
    payloads: list[bytes] = []
    try:
        await drain(answer, payloads)
    finally:
        answer.abort()
    return payloads, answer


async def drain(answer: Answer, payloads: list[bytes]) -> None:
    """Read to the end, or to a failure."""
    while some := await answer.read():
        payloads += some


async def until(condition: Any) -> None:
    """Wait for what happens in another task; the test's time limit bounds it."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def finish_of(payload: bytes) -> str | None:
    """The finish reason in a payload."""
    return next((choice.get("finish_reason") for choice in json.loads(payload)["choices"]), None)


def calls_of(payload: bytes) -> Sequence[dict[str, Any]]:
    """The pieces of tool calls in a payload."""
    choices = json.loads(payload)["choices"]
    return [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
