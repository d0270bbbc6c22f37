from typing import Any

import pytest
from inference_worker.providers.anthropic.request import DEFAULT_MAX_TOKENS, to_messages_request
from inference_worker.providers.model import UpstreamRejected


def translated(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return to_messages_request({"model": "claude", "messages": list(messages), **more})


def text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_system_messages_at_any_position_become_the_system():
    request = translated(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": [text("Be kind.")]},
    )

    assert request["system"] == [text("Be brief."), text("Be kind.")]
    assert request["messages"] == [{"role": "user", "content": [text("Hi")]}]


def test_adjacent_messages_of_one_role_become_one():
    request = translated(
        {"role": "user", "content": "One"},
        {"role": "user", "content": "Two"},
        {"role": "assistant", "content": "Three"},
        {"role": "user", "content": "Four"},
    )

    assert [message["role"] for message in request["messages"]] == ["user", "assistant", "user"]
    assert request["messages"][0]["content"] == [text("One"), text("Two")]


def test_tool_calls_and_their_results_are_translated():
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    other = {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}}

    request = translated(
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call, other]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": "Noon"},
        {"role": "user", "content": "Thanks"},
    )

    assert request["messages"][1]["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
    ]
    assert request["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": [text("Sunny")]},
        {"type": "tool_result", "tool_use_id": "call_2", "content": [text("Noon")]},
        text("Thanks"),
    ]


def test_images_and_files_keep_their_source():
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
        {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
    ]

    (message,) = translated({"role": "user", "content": parts})["messages"]

    assert message["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"},
            "title": "a.pdf",
        },
        {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
    ]


def test_tools_are_translated_with_their_choice():
    tool = {"type": "function", "function": {"name": "weather", "description": "Now", "parameters": {"type": "object"}}}

    request = translated(
        {"role": "user", "content": "Hi"},
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
    )

    assert request["tools"] == [{"name": "weather", "description": "Now", "input_schema": {"type": "object"}}]
    assert request["tool_choice"] == {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(("choice", "translation"), [("auto", "auto"), ("required", "any"), ("none", "none")])
def test_a_tool_choice_that_is_a_string_is_translated(choice: str, translation: str):
    tools = [{"type": "function", "function": {"name": "weather"}}]

    request = translated({"role": "user", "content": "Hi"}, tools=tools, tool_choice=choice)

    assert request["tool_choice"] == {"type": translation}


@pytest.mark.parametrize(
    ("params", "expected"),
    [({}, DEFAULT_MAX_TOKENS), ({"max_tokens": 5}, 5), ({"max_tokens": 5, "max_completion_tokens": 7}, 7)],
)
def test_there_is_always_a_limit_of_tokens(params: dict[str, int], expected: int):
    assert translated({"role": "user", "content": "Hi"}, **params)["max_tokens"] == expected


def test_sampling_and_stops_are_translated_and_unknown_fields_are_dropped():
    request = translated(
        {"role": "user", "content": "Hi"}, temperature=1.7, stop="END", user="u1", seed=4, presence_penalty=1
    )

    assert request["temperature"] == 1
    assert request["stop_sequences"] == ["END"]
    assert request["metadata"] == {"user_id": "u1"}
    assert not {"seed", "presence_penalty", "stop", "user"} & set(request)


def test_a_json_schema_becomes_an_output_format():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}

    request = translated({"role": "user", "content": "Hi"}, response_format=response_format)

    assert request["output_config"] == {"format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize(
    "params",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "custom"}]},
    ],
)
def test_an_unsupported_parameter_is_left_to_the_next_candidate(params: dict[str, Any]):
    with pytest.raises(UpstreamRejected) as caught:
        translated({"role": "user", "content": "Hi"}, **params)

    assert caught.value.fallback
    assert not caught.value.maybe_billed


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "data:image/png,plain"}},
        {"type": "image_url", "image_url": None},
    ],
)
def test_an_image_without_a_valid_source_is_left_to_the_next_candidate(part: dict[str, Any]):
    with pytest.raises(UpstreamRejected) as caught:
        translated({"role": "user", "content": [part]})

    assert caught.value.fallback


def test_tool_arguments_that_are_not_json_are_left_to_the_next_candidate():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{oops"}}

    with pytest.raises(UpstreamRejected) as caught:
        translated({"role": "assistant", "tool_calls": [call]})

    assert caught.value.fallback
