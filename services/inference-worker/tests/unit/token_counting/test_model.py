import json

import pytest
from inference_worker.domain import transcript
from inference_worker.domain.transcript import Transcript, answer_texts, prompt_overhead, prompt_texts
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
def test_a_body_that_cannot_be_read_has_no_text(body: bytes):
    assert prompt_texts(body) == []


def test_what_a_model_wrote_is_found_in_deltas_and_in_messages():
    call = {"function": {"name": "f", "arguments": "{}"}}
    delta = chunk({"content": "a", "reasoning_content": "b", "tool_calls": [call]})
    message = json.dumps({"choices": [{"message": {"content": "a", "refusal": "c"}}]}).encode()

    assert list(answer_texts(delta)) == ["b", "a", "f", "{}"]
    assert list(answer_texts(message)) == ["a", "c"]
    assert list(answer_texts(b'{"choices": [{"delta": null}]}')) == []


def test_a_long_answer_is_kept_as_text_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transcript, "FOLD_AFTER_BYTES", 1000)
    said = Transcript()

    for _ in range(100):
        said.add([chunk({"content": "word "})])

    assert said.texts() == ["word " * 100]


def test_an_answer_that_is_too_long_to_keep_cannot_be_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transcript, "TEXT_LIMIT", 100)
    said = Transcript()
    said.add([chunk({"content": "x" * 101})])

    assert said.texts() is None
    said.add([chunk({"content": "x"})])
    assert said.texts() is None
