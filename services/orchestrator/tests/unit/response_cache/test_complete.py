import json
from collections.abc import Sequence

import pytest
from orchestrator.response_cache.complete import is_complete


def chunk(reason: str | None, index: int = 0) -> bytes:
    return json.dumps({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}).encode()


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_a_stream_that_ended_by_a_kept_reason_is_complete(reason: str) -> None:
    assert is_complete([chunk(None), chunk(None), chunk(reason)], 1)
    assert is_complete([chunk(reason).replace(b": ", b":")], 1)


@pytest.mark.parametrize(
    ("payloads", "answers"),
    [
        ([], 1),
        ([b"{}"], 1),
        ([chunk(None)], 1),
        ([chunk("content_filter")], 1),
        ([chunk("stop")], 2),
        ([chunk("stop"), chunk("content_filter", 1)], 2),
        ([b'{"choices":[{"finish_reason":"stop"'], 1),
        ([b'{"choices":[{"finish_reason":["stop"]}]}'], 1),
        ([b'"finish_reason"'], 1),
    ],
)
def test_an_answer_that_is_not_complete_is_not_whole(payloads: Sequence[bytes], answers: int) -> None:
    assert not is_complete(payloads, answers)


def test_all_of_several_answers_must_have_ended() -> None:
    assert is_complete([chunk("stop", 1), chunk(None), chunk("length", 0)], 2)


def test_a_refusal_of_a_model_is_no_answer_to_give_again() -> None:
    refused = {"index": 0, "delta": {"refusal": "I cannot help with that."}, "finish_reason": None}
    for separators in ((",", ":"), (", ", ": ")):
        assert not is_complete([json.dumps({"choices": [refused]}, separators=separators).encode(), chunk("stop")], 1)
    body = {"index": 0, "message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}
    assert not is_complete([json.dumps({"choices": [body]}).encode()], 1)


def test_an_answer_that_only_speaks_of_refusals_is_kept() -> None:
    spoken = {"index": 0, "delta": {"content": 'Use "refusal": "no".', "refusal": None}, "finish_reason": "stop"}
    assert is_complete([json.dumps({"choices": [spoken]}).encode()], 1)
