"""The contract of every provider. The model selects what its upstream does."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from inference_worker.providers.model import (
    UpstreamAccountUnavailable,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamRateLimited,
    UpstreamRejected,
)
from inference_worker.providers.ports import Completion, Provider
from values.usage import TokenUsage, UsageSource
from worker_fakes import WORDS, a_body, text_of

KEY = "sk-very-secret-credential"


class ProviderContract:
    """A subclass opens the `provider`, and counts the calls that its upstream received, and that were aborted."""

    @pytest.fixture
    def provider(self) -> Provider:
        raise NotImplementedError

    def received(self) -> int:
        raise NotImplementedError

    def aborted(self) -> int:
        raise NotImplementedError

    async def test_a_stream_is_openai_chunks_and_usage_is_kept_out_of_them(self, provider: Provider):
        payloads, completion = await complete(provider, "instant", stream=True)

        assert text_of(payloads) == "".join(WORDS)
        assert [reason for reason in map(finish_of, payloads) if reason] == ["stop"]
        assert all("usage" not in json.loads(payload) for payload in payloads)
        assert completion.usage == TokenUsage(UsageSource.REPORTED, 2, 8)
        last = json.loads(completion.usage_payload)
        assert last["choices"] == []
        assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (2, 8)

    async def test_a_buffered_completion_is_one_openai_body(self, provider: Provider):
        payloads, completion = await complete(provider, "instant", stream=False)

        (body,) = payloads
        assert json.loads(body)["object"] == "chat.completion"
        assert json.loads(body)["choices"][0]["finish_reason"] == "stop"
        assert text_of([body]) == "".join(WORDS)
        assert completion.usage == TokenUsage(UsageSource.REPORTED, 2, 8)
        assert completion.usage_payload == b""

    @pytest.mark.parametrize("stream", [True, False])
    async def test_usage_that_is_not_reported_is_not_invented(self, provider: Provider, stream: bool):
        payloads, completion = await complete(provider, "no-usage", stream=stream)

        assert text_of(payloads) == "".join(WORDS)
        assert completion.usage is None
        assert completion.usage_payload == b""

    async def test_a_streamed_tool_call_comes_in_openai_pieces(self, provider: Provider):
        payloads, _ = await complete(provider, "tools", stream=True)

        calls = [call for payload in payloads for call in calls_of(payload)]
        assert [call["id"] for call in calls if call.get("id")] == ["call_1"] or calls[0]["id"] == "toolu_1"
        assert calls[0]["function"]["name"] == "weather"
        assert json.loads("".join(call["function"].get("arguments") or "" for call in calls)) == {"city": "Paris"}
        assert [reason for reason in map(finish_of, payloads) if reason] == ["tool_calls"]

    async def test_a_buffered_tool_call_is_in_openais_format(self, provider: Provider):
        payloads, _ = await complete(provider, "tools", stream=False)

        (call,) = json.loads(payloads[0])["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "weather"
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("model", "error", "fallback"),
        [
            ("429", UpstreamRateLimited, True),
            ("500", UpstreamFailed, True),
            ("401", UpstreamAccountUnavailable, True),
            ("400", UpstreamRejected, False),
        ],
    )
    async def test_an_error_status_is_not_billed_and_decides_on_fallback(
        self, provider: Provider, model: str, error: type[UpstreamFailed], fallback: bool, stream: bool
    ):
        with pytest.raises(UpstreamFailed) as caught:
            await complete(provider, model, stream=stream)

        assert type(caught.value) is error
        assert caught.value.fallback is fallback
        assert not caught.value.maybe_billed
        assert KEY not in caught.value.message

    async def test_a_rejected_request_keeps_the_upstreams_message(self, provider: Provider):
        with pytest.raises(UpstreamRejected) as caught:
            await complete(provider, "400", stream=True)

        assert caught.value.message == "simulated 400"

    async def test_an_error_instead_of_the_first_chunk_is_open_to_fallback(self, provider: Provider):
        with pytest.raises(UpstreamFailed) as caught:
            await complete(provider, "error-first", stream=True)

        assert caught.value.fallback
        assert not isinstance(caught.value, UpstreamInterrupted)

    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_body_that_is_not_json_is_open_to_fallback(self, provider: Provider, stream: bool):
        with pytest.raises(UpstreamFailed) as caught:
            await complete(provider, "garbage", stream=stream)

        assert caught.value.fallback

    async def test_a_dropped_connection_is_open_to_fallback(self, provider: Provider):
        with pytest.raises(UpstreamFailed) as caught:
            await complete(provider, "cut-before", stream=True)

        assert caught.value.fallback

    @pytest.mark.parametrize("model", ["cut", "error-event", "garbage-middle"])
    async def test_payloads_before_an_interruption_are_returned(self, provider: Provider, model: str):
        completion = await open_completion(provider, model)
        payloads: list[bytes] = []

        with pytest.raises(UpstreamFailed):
            await drain(completion, payloads)

        assert text_of(payloads) == "".join(WORDS[:3])
        completion.abort()

    async def test_aborting_closes_the_connection_to_the_upstream(self, provider: Provider):
        completion = await open_completion(provider, "silent")
        payloads: list[bytes] = []
        while text_of(payloads) != "".join(WORDS[:3]):
            payloads += await completion.read()

        completion.abort()
        completion.abort()

        await until(lambda: self.aborted() == 1)

    async def test_a_cancelled_open_leaves_nothing_open(self, provider: Provider):
        opening = asyncio.create_task(open_completion(provider, "timeout"))
        await until(lambda: self.received() == 1)

        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

        await until(lambda: self.aborted() == 1)


async def open_completion(provider: Provider, model: str, *, stream: bool = True, **fields: Any) -> Completion:
    return await provider.open(model, a_body(model, stream=stream, **fields), stream=stream)


async def complete(provider: Provider, model: str, *, stream: bool) -> tuple[list[bytes], Completion]:
    """Open a completion and read all of it."""
    completion = await open_completion(provider, model, stream=stream)
    payloads: list[bytes] = []
    try:
        await drain(completion, payloads)
    finally:
        completion.abort()
    return payloads, completion


async def drain(completion: Completion, payloads: list[bytes]) -> None:
    """Read to the end, or to an error."""
    while available := await completion.read():
        payloads += available


async def until(condition: Any) -> None:
    """Wait until another task has made `condition` true, for twenty seconds at most."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def finish_of(payload: bytes) -> str | None:
    """The finish reason in a payload."""
    return next((choice.get("finish_reason") for choice in json.loads(payload)["choices"]), None)


def calls_of(payload: bytes) -> Sequence[dict[str, Any]]:
    """The pieces of tool calls in a payload."""
    choices = json.loads(payload)["choices"]
    return [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
