import json
from typing import Any

import pytest
from inference_worker.providers.anthropic.events import (
    EventTranslator,
    finish_reason,
    message_to_completion,
    message_usage,
)
from inference_worker.providers.model import UpstreamFailed, UpstreamInterrupted
from values.usage import TokenUsage, UsageSource

MESSAGE = {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 10, "output_tokens": 1}}
STARTED = {"type": "message_start", "message": MESSAGE}


def translated(*events: dict[str, Any]) -> tuple[list[dict[str, Any]], EventTranslator]:
    translator = EventTranslator(created=7)
    chunks = [translator.translate(event) for event in (STARTED, *events)]
    return [json.loads(chunk) for chunk in chunks if chunk is not None], translator


def delta(**fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": fields}


def block_start(**block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": block}


def test_the_first_chunk_names_message_model_and_role():
    (chunk,), _ = translated()

    assert (chunk["id"], chunk["model"], chunk["created"]) == ("msg_1", "claude", 7)
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_two_tool_calls_are_told_apart_by_their_index():
    chunks, _ = translated(
        block_start(type="tool_use", id="a", name="first"),
        delta(type="input_json_delta", partial_json="{}"),
        block_start(type="tool_use", id="b", name="second"),
        delta(type="input_json_delta", partial_json='{"x":1}'),
    )

    calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in chunks[1:]]
    assert [call["index"] for call in calls] == [0, 0, 1, 1]
    assert [call.get("id") for call in calls] == ["a", None, "b", None]


def test_thinking_becomes_reasoning_and_its_signature_is_dropped():
    chunks, _ = translated(delta(type="thinking_delta", thinking="hm"), delta(type="signature_delta", signature="x"))

    assert [chunk["choices"][0]["delta"] for chunk in chunks[1:]] == [{"reasoning_content": "hm"}]


def test_cached_tokens_are_prompt_tokens():
    usage = {"input_tokens": 5, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 9}
    _, translator = translated(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}, {"type": "message_stop"}
    )

    assert translator.usage == TokenUsage(UsageSource.REPORTED, 325, 9)
    payload = json.loads(translator.usage_payload())
    assert payload["choices"] == []
    assert payload["usage"] == {
        "prompt_tokens": 325,
        "completion_tokens": 9,
        "total_tokens": 334,
        "prompt_tokens_details": {"cached_tokens": 300},
    }


def test_before_the_end_only_the_prompts_tokens_are_known():
    _, translator = translated(delta(type="text_delta", text="Hi"))

    assert translator.usage == TokenUsage(UsageSource.REPORTED, 10, None)


def test_implausible_counts_are_ignored():
    assert message_usage({"input_tokens": -1, "output_tokens": 3}) is None
    assert message_usage({"input_tokens": True, "output_tokens": 3}) is None
    assert message_usage({}) is None


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_every_stop_reason_is_a_finish_reason(stop_reason: str | None, expected: str):
    assert finish_reason(stop_reason) == expected


def test_an_error_before_the_message_is_a_failure_and_after_it_an_interruption():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}

    with pytest.raises(UpstreamFailed) as before:
        EventTranslator(0).translate(error)
    with pytest.raises(UpstreamInterrupted):
        translated(error)

    assert not before.value.maybe_billed


def test_pings_and_unknown_events_are_ignored():
    chunks, _ = translated({"type": "ping"}, {"type": "something_new"}, block_start(type="server_tool_use", id="x"))

    assert len(chunks) == 1


def test_a_buffered_message_becomes_a_completion():
    message = MESSAGE | {
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "text", "text": "It is "},
            {"type": "text", "text": "sunny."},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        ],
        "stop_reason": "tool_use",
    }

    completion = message_to_completion(message, created=7)

    (choice,) = completion["choices"]
    assert choice["message"]["content"] == "It is sunny."
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert choice["finish_reason"] == "tool_calls"
    assert completion["usage"]["total_tokens"] == 11
