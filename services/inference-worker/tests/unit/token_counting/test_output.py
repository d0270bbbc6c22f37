import json
from typing import Any

import pytest
from inference_worker.token_counting import output as module
from inference_worker.token_counting.output import OutputText
from worker_fakes import chunk


def a_message(**message: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


def texts_of(*payloads: bytes) -> list[str] | None:
    output = OutputText()
    output.add(payloads)
    return output.texts()


@pytest.mark.parametrize(
    ("delta", "texts"),
    [
        ({"content": "a"}, ["a"]),
        ({"role": "assistant", "content": ""}, []),
        ({"content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": [{"text": "b"}]}]}, ["ab"]),
        ({"reasoning_content": "a"}, ["a"]),
        ({"reasoning": "a"}, ["a"]),
        ({"thinking": "a"}, ["a"]),
        # The same under two names is written once.
        ({"reasoning": "a", "reasoning_content": "a"}, ["a"]),
        ({"refusal": "a"}, ["a"]),
        ({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}]}, ["f", "{}"]),
        ({"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "x"}}]}, ["f", "x"]),
        ({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, ["f", '{"a": 1}']),
        ({"function_call": {"name": "f", "arguments": "{}"}}, ["f", "{}"]),
        ({"audio": {"id": "audio_1", "transcript": "a"}}, ["a"]),
    ],
)
def test_everything_that_the_model_wrote_is_found(delta: dict[str, Any], texts: list[str]):
    assert texts_of(chunk(delta)) == texts
    assert texts_of(a_message(**delta)) == texts


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a", "audio": {"data": "QUJD", "transcript": "a"}},
        {"content": "a", "images": [{"type": "image_url"}]},
        {"content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"content": "a", "something_new": "b"},
        {"tool_calls": [{"function": {"name": "f", "something_new": "b"}}]},
        {"tool_calls": [{"something_new": "b"}]},
        {"function_call": "f"},
    ],
)
def test_what_is_not_known_to_be_text_makes_the_output_uncountable(delta: dict[str, Any]):
    assert texts_of(chunk({"content": "a"}), chunk(delta), chunk({"content": "b"})) is None


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b'{"choices": 7}', b'{"choices": ["x"]}', b'{"choices": [{"delta": 7}]}']
)
def test_a_payload_that_cannot_be_read_makes_the_output_uncountable(payload: bytes):
    assert texts_of(payload) is None


def test_a_payload_without_text_is_no_text():
    assert texts_of(b'{"choices": []}', b'{"choices": [{"delta": null}]}', b"{}") == []


def test_the_text_of_a_legacy_completion_is_found():
    assert texts_of(b'{"choices": [{"index": 0, "text": "a"}]}') == ["a"]


def test_the_pieces_of_each_choice_and_field_are_one_text():
    def piece(index: int, **delta: str) -> bytes:
        return json.dumps({"choices": [{"index": index, "delta": delta}]}).encode()

    payloads = [piece(0, content="He"), piece(1, content="Bon"), piece(0, content="llo"), piece(1, content="jour")]

    assert texts_of(*payloads, piece(0, reasoning="so")) == ["Hello", "Bonjour", "so"]


def test_of_a_long_output_only_the_text_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "EXTRACT_AFTER_BYTES", 1000)
    output = OutputText()

    for _ in range(100):
        output.add([chunk({"content": "word "})])

    assert output.texts() == ["word " * 100]


@pytest.mark.parametrize(("name", "limit"), [("MAX_TEXT_CHARACTERS", 100), ("MAX_TEXTS", 0)])
def test_an_output_that_is_too_long_to_keep_cannot_be_counted(monkeypatch: pytest.MonkeyPatch, name: str, limit: int):
    monkeypatch.setattr(module, name, limit)
    output = OutputText()
    output.add([chunk({"content": "x" * 101})])

    assert output.texts() is None
    output.add([chunk({"content": "x"})])
    assert output.texts() is None


def test_shown_reasoning_is_noticed():
    output = OutputText()
    output.add([chunk({"content": "a"})])
    assert not output.has_reasoning
    output.add([chunk({"reasoning_content": "b"})])
    assert output.has_reasoning
