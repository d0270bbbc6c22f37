"""Requests that OpenAI takes and Anthropic, by its documentation or its error messages, refuses."""

import base64
from typing import Any

import pytest
from inference_worker.providers.anthropic.request import to_messages_request
from inference_worker.providers.model import UpstreamRejected

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
THINKING = {"type": "enabled", "budget_tokens": 2000}


def translated(*messages: dict[str, Any], **more: Any) -> tuple[dict[str, Any], list[str]]:
    warnings: list[str] = []
    return to_messages_request({"model": "claude", "messages": list(messages), **more}, warnings), warnings


def text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def a_call(call_id: str = "c1", name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def a_result(call_id: str = "c1", content: Any = "42") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def refusal(*messages: dict[str, Any], **more: Any) -> UpstreamRejected:
    with pytest.raises(UpstreamRejected) as caught:
        translated(*messages, **more)
    assert not caught.value.maybe_billed
    return caught.value


@pytest.mark.parametrize(
    "messages", [[], [{"role": "system", "content": "Be brief."}], [{"role": "user", "content": " "}]]
)
def test_a_conversation_without_a_users_turn_gets_one(messages: list[dict[str, Any]]):
    request, _ = translated(*messages)

    assert request["messages"] == [{"role": "user", "content": [text(".")]}]


def test_a_conversation_that_the_assistant_begins_gets_a_users_turn_before_it():
    request, _ = translated({"role": "assistant", "content": "Hello, I am Ann."}, USER)

    assert [turn["role"] for turn in request["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_blank_texts_are_left_out(role: str, blank: str):
    request, _ = translated(USER, {"role": role, "content": [text(blank), text("x")]}, {"role": role, "content": blank})

    texts = [block["text"] for turn in request["messages"] for block in turn["content"]]
    assert texts + [block["text"] for block in request.get("system", [])] == ["Hi", "x"]


def test_an_answer_to_go_on_with_does_not_end_with_white_space():
    request, _ = translated(USER, {"role": "assistant", "content": "The answer is: \n"})

    assert request["messages"][-1]["content"] == [text("The answer is:")]


def test_results_of_tools_come_first_in_the_turn_after_their_calls():
    calls = {"role": "assistant", "content": "", "tool_calls": [a_call("c1"), a_call("c2")]}

    request, _ = translated(USER, calls, {"role": "user", "content": "And?"}, a_result("c1"), a_result("c2"))

    kinds = [block["type"] for block in request["messages"][-1]["content"]]
    assert kinds == ["tool_result", "tool_result", "text"]


@pytest.mark.parametrize("call_id", ["functions.f:0", "call.1", "ü", "x" * 65, ""])
def test_ids_of_other_providers_become_ids_that_are_taken(call_id: str):
    request, _ = translated(USER, {"role": "assistant", "tool_calls": [a_call(call_id)]}, a_result(call_id))

    used = request["messages"][1]["content"][0]["id"]
    assert used == request["messages"][2]["content"][0]["tool_use_id"]
    assert used.isascii()
    assert used.replace("_", "").isalnum()
    assert len(used) <= 64


def test_functions_of_the_old_api_are_calls_and_results():
    called = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}

    request, _ = translated(USER, called, {"role": "function", "name": "f", "content": "42"})

    (use,) = request["messages"][1]["content"]
    (result,) = request["messages"][2]["content"]
    assert (use["type"], use["name"], use["input"]) == ("tool_use", "f", {"a": 1})
    assert (result["type"], result["tool_use_id"], result["content"]) == ("tool_result", use["id"], [text("42")])


def test_a_history_of_calls_without_tools_declares_them_and_forbids_more():
    request, _ = translated(USER, {"role": "assistant", "tool_calls": [a_call()]}, a_result())

    assert request["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert request["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize("parameters", [{"properties": {"a": {}}}, {"additionalProperties": False}])
def test_a_schema_without_a_type_is_an_object(parameters: dict[str, Any]):
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}

    request, _ = translated(USER, tools=[tool])

    assert request["tools"][0]["input_schema"] == {"type": "object", **parameters}


def test_allowed_tools_are_the_only_ones():
    other = {"type": "function", "function": {"name": "g"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}

    request, _ = translated(USER, tools=[TOOL, other], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})

    assert [tool["name"] for tool in request["tools"]] == ["g"]
    assert request["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("asked", "kept", "dropped"),
    [
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, ["top_p"]),
        ({"top_p": 0.9}, {"top_p": 0.9}, []),
        ({"temperature": 1.5}, {"temperature": 1}, ["temperature"]),
        ({"stop": ["\n", "END", ""]}, {"stop_sequences": ["END"]}, ["stop"]),
        ({"stop": "\n\n"}, {}, ["stop"]),
        ({"seed": 1, "presence_penalty": 0.5}, {}, ["seed", "presence_penalty"]),
        ({"seed": None, "presence_penalty": 0}, {}, []),
        ({"thinking": THINKING, "temperature": 0.2, "top_k": 5}, {"thinking": THINKING}, ["temperature", "top_k"]),
        ({"thinking": THINKING, "temperature": 1, "top_k": None}, {"thinking": THINKING, "temperature": 1}, []),
        ({"thinking": THINKING, "top_p": 0.5}, {"thinking": THINKING}, ["top_p"]),
        ({"thinking": THINKING, "top_p": 0.97}, {"thinking": THINKING, "top_p": 0.97}, []),
        ({"thinking": THINKING, "tools": [TOOL], "tool_choice": "required"}, {}, ["thinking"]),
        ({"thinking": THINKING, "max_tokens": 1500}, {"thinking": {**THINKING, "budget_tokens": 1499}}, ["budget"]),
        ({"thinking": THINKING, "max_tokens": 1000}, {}, ["hinking"]),
        (
            {"thinking": {"type": "disabled"}, "temperature": 0},
            {"thinking": {"type": "disabled"}, "temperature": 0},
            [],
        ),
    ],
)
def test_parameters_that_exclude_each_other_are_dropped_with_a_warning(
    asked: dict[str, Any], kept: dict[str, Any], dropped: list[str]
):
    request, warnings = translated(USER, **asked)

    names = ("temperature", "top_p", "top_k", "thinking", "stop_sequences")
    assert {name: request[name] for name in names if name in request} == kept
    assert len(warnings) == len(dropped)
    assert all(name in warning for name, warning in zip(dropped, warnings, strict=True))


def test_signed_thinking_goes_back_before_the_calls_it_led_to():
    signed = {"type": "thinking", "thinking": "Hm.", "signature": "s1"}
    hidden = {"type": "redacted_thinking", "data": "AAAA"}
    unsigned = {"type": "thinking", "thinking": "Of another provider."}
    blocks = [signed, hidden, unsigned]
    called = {"role": "assistant", "content": "So.", "thinking_blocks": blocks, "tool_calls": [a_call()]}

    request, warnings = translated(USER, called, a_result(), tools=[TOOL], thinking=THINKING)

    assert [block["type"] for block in request["messages"][1]["content"]] == [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
    ]
    assert request["messages"][1]["content"][0] == signed
    assert request["thinking"] == THINKING
    assert warnings == []


def test_without_the_signed_thinking_of_its_calls_the_model_does_not_think():
    called = {"role": "assistant", "content": None, "tool_calls": [a_call()]}

    request, warnings = translated(USER, called, a_result(), tools=[TOOL], thinking=THINKING)

    assert "thinking" not in request
    assert "thinking_blocks" in warnings[0]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "file", "file": {"file_id": "file-1"}}, "file_data"),
        ({"type": "image_url", "image_url": {"url": "http://x/a.png"}}, "https"),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AA"}}, "image/svg+xml"),
        ({"type": "file", "file": {"file_data": "data:application/zip;base64,AA"}}, "application/zip"),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, "input_audio"),
    ],
)
def test_what_the_upstream_cannot_read_is_left_to_the_next_candidate_with_the_reason(part: dict[str, Any], reason: str):
    error = refusal({"role": "user", "content": [part]})

    assert error.fallback
    assert reason in error.message


@pytest.mark.parametrize("role", ["assistant", "system"])
def test_an_image_of_another_role_is_left_to_the_next_candidate(role: str):
    image = {"type": "image_url", "image_url": {"url": "https://x/a.png"}}

    assert refusal(USER, {"role": role, "content": [image]}).fallback


@pytest.mark.parametrize("arguments", ["[1]", "{", "null", {"a": 1}])
def test_arguments_that_are_no_object_are_left_to_the_next_candidate(arguments: Any):
    if isinstance(arguments, dict):
        request, _ = translated(USER, {"role": "assistant", "tool_calls": [a_call(arguments=arguments)]}, a_result())
        assert request["messages"][1]["content"][0]["input"] == arguments
    else:
        assert refusal(USER, {"role": "assistant", "tool_calls": [a_call(arguments=arguments)]}).fallback


def test_files_are_given_in_the_form_of_their_type():
    data = base64.b64encode("Grüße".encode()).decode()
    parts = [
        {"type": "file", "file": {"filename": "a.txt", "file_data": f"data:text/plain;charset=utf-8;base64,{data}"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AA"}},
        {"type": "file", "file": {"file_data": "data:image/png;base64,AA"}},
    ]

    request, _ = translated({"role": "user", "content": parts})

    first, second, third = request["messages"][0]["content"]
    assert first["source"] == {"type": "text", "media_type": "text/plain", "data": "Grüße"}
    assert second["source"]["media_type"] == "image/jpeg"
    assert third["type"] == "image"


def test_a_refusal_in_the_history_is_text():
    request, _ = translated(USER, {"role": "assistant", "content": None, "refusal": "I cannot."}, USER)

    assert request["messages"][1]["content"] == [text("I cannot.")]
