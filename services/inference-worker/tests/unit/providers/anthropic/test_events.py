import json
from typing import Any

import pytest
from inference_worker.providers.anthropic.events import (
    EventTranslator,
    finish_reason,
    message_to_completion,
    message_usage,
)
from values.usage import TokenDetails, TokenUsage, UsageSource

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

    details = TokenDetails(cached_input=300, cache_write=20)
    assert translator.usage == TokenUsage(UsageSource.REPORTED, 325, 9, details)
    payload = json.loads(translator.usage_payload())
    assert payload["choices"] == []
    assert payload["usage"] == {
        "prompt_tokens": 325,
        "completion_tokens": 9,
        "total_tokens": 334,
        "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 20},
        "cache_read_input_tokens": 300,
        "cache_creation_input_tokens": 20,
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


def chunks_of(*events: dict[str, Any]) -> list[dict[str, Any]]:
    translator = EventTranslator(created=1)
    start = {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 1}}}
    payloads = [translator.translate(event) for event in (start, *events)]
    return [json.loads(payload)["choices"][0]["delta"] for payload in payloads[1:] if payload is not None]


@pytest.mark.parametrize(
    ("given", "pieces", "arguments"),
    [
        ({}, [], "{}"),
        ({}, [""], "{}"),
        ({"a": 1}, [], '{"a":1}'),
        ({}, ["", '{"a"', ": 1}"], '{"a": 1}'),
    ],
)
def test_the_arguments_of_a_streamed_call_are_always_an_object(
    given: dict[str, Any], pieces: list[str], arguments: str
):
    block = {"type": "tool_use", "id": "t", "name": "f", "input": given}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
        for piece in pieces
    ]

    chunks = chunks_of(
        {"type": "content_block_start", "index": 0, "content_block": block},
        *deltas,
        {"type": "content_block_stop", "index": 0},
    )

    written = "".join(call["function"]["arguments"] for chunk in chunks for call in chunk["tool_calls"])
    assert written == arguments


def test_signed_thinking_is_given_whole_at_the_end_of_its_block():
    chunks = chunks_of(
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "H"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s1"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "AA"}},
        {"type": "content_block_stop", "index": 1},
    )

    assert "".join(chunk.get("reasoning_content", "") for chunk in chunks) == "Hm."
    assert [block for chunk in chunks for block in chunk.get("thinking_blocks", [])] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s1"},
        {"type": "redacted_thinking", "data": "AA"},
    ]


def test_a_message_without_a_usage_shows_none():
    message = {"id": "m", "model": "claude", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}

    assert "usage" not in message_to_completion(message, created=1)
