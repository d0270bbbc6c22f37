import json

import pytest
from inference_worker.token_counting import model as token_counting
from inference_worker.token_counting.model import OutputText, output_texts, prompt_overhead, prompt_texts
from worker_fakes import chunk


def test_texts_of_all_kinds_of_messages_are_found():
    body = {
        "messages": [
            {"role": "system", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "two"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "three"},
        ],
        "tools": [{"type": "function"}],
    }

    assert prompt_texts(json.dumps(body).encode()) == ["one", "two", "f", "{}", "three", '[{"type": "function"}]']
    assert prompt_overhead(json.dumps(body).encode()) == 15


def test_a_prompt_with_an_image_cannot_be_counted():
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}

    assert prompt_texts(json.dumps(body).encode()) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": 7}', b'{"messages": ["x"]}', b"\xff"])
def test_a_body_that_cannot_be_parsed_has_no_text(body: bytes):
    assert prompt_texts(body) == []


def test_output_is_found_in_deltas_and_in_messages():
    call = {"function": {"name": "f", "arguments": "{}"}}
    delta = chunk({"content": "a", "reasoning_content": "b", "tool_calls": [call]})
    message = json.dumps({"choices": [{"message": {"content": "a", "refusal": "c"}}]}).encode()

    assert list(output_texts(delta)) == ["b", "a", "f", "{}"]
    assert list(output_texts(message)) == ["a", "c"]
    assert list(output_texts(b'{"choices": [{"delta": null}]}')) == []


def test_of_a_long_output_only_the_text_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(token_counting, "EXTRACT_AFTER_BYTES", 1000)
    output = OutputText()

    for _ in range(100):
        output.add([chunk({"content": "word "})])

    assert output.texts() == ["word " * 100]


def test_an_output_that_is_too_long_to_keep_cannot_be_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(token_counting, "MAX_TEXT_CHARACTERS", 100)
    output = OutputText()
    output.add([chunk({"content": "x" * 101})])

    assert output.texts() is None
    output.add([chunk({"content": "x"})])
    assert output.texts() is None
