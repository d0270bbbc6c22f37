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
