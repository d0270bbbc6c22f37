import json
from typing import Any

import pytest
from inference_worker.token_counting.messages import Uncountable
from inference_worker.token_counting.model import count_prompt, may_hide_reasoning, prompt_texts
from worker_fakes import FakeCounter


def a_body(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"messages": messages, **fields}).encode()


def test_texts_of_all_kinds_of_messages_are_found():
    function = {"name": "g", "arguments": "[]"}
    body = a_body(
        {"role": "system", "content": "one", "name": "me"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "refusal", "refusal": "no"}, "part"]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "assistant", "function_call": function, "reasoning_content": "so", "refusal": None},
        {"role": "tool", "content": "three", "tool_call_id": "1"},
        tools=[{"type": "function"}],
        functions=[{"name": "h"}],
        response_format={"type": "json_schema"},
    )

    texts, messages = prompt_texts(body)

    assert texts == [
        *("one", "me", "two", "no", "part", "f", "{}", "g", "[]", "so", "three"),
        *('[{"type": "function"}]', '[{"name": "h"}]', '{"type": "json_schema"}'),
    ]
    assert messages == 5


async def test_a_json_schema_is_part_of_the_prompt():
    schema = {"type": "json_schema", "json_schema": {"schema": {"description": "word " * 100}}}

    with_schema = await count_prompt(a_body({"content": "a"}, response_format=schema), FakeCounter())
    without = await count_prompt(a_body({"content": "a"}), FakeCounter())

    assert with_schema is not None
    assert without is not None
    assert with_schema >= without + 100


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        # The type decides what the provider reads.
        {"content": [{"type": "image_url", "text": "x", "image_url": {"url": "data:"}}]},
        {"content": [{"type": "input_audio", "input_audio": {"data": "QUJD"}}]},
        {"content": [{"type": "file", "file": {"file_data": "QUJD"}}]},
        {"content": {"text": "x"}},
        {"content": "x", "images": ["QUJD"]},
        {"audio": {"id": "audio_1"}},
        "x",
    ],
)
async def test_a_prompt_with_more_than_text_cannot_be_counted(message: Any):
    assert await count_prompt(a_body(message), FakeCounter()) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"messages": 7}', b"\xff", b'{"messages": [], "prediction": {"a": 1}}']
)
def test_a_body_that_cannot_be_read_whole_is_not_counted(body: bytes):
    with pytest.raises(Uncountable):
        prompt_texts(body)


@pytest.mark.parametrize(
    ("fields", "may_hide"),
    [
        ({}, False),
        ({"max_tokens": 10}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"max_completion_tokens": 10}, True),
        ({"thinking": {"type": "enabled"}}, True),
    ],
)
def test_a_reasoning_model_may_hide_what_it_writes(fields: dict[str, Any], may_hide: bool):
    assert may_hide_reasoning(a_body(**fields)) is may_hide
