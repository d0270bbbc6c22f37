"""Calls without results, and results without calls: Anthropic refuses both."""

from typing import Any

import pytest
from inference_worker.providers.anthropic.messages import to_turns
from inference_worker.providers.model import UpstreamRejected

USER = {"role": "user", "content": "Hi"}


def a_turn(*ids: str) -> dict[str, Any]:
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def a_result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "42"}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([USER, a_turn("c1", "c2"), a_result("c1"), USER], "the calls c2 of the assistant have no results"),
        ([USER, a_turn("c1"), USER, a_turn("c2"), a_result("c2")], "the calls c1"),
        ([USER, a_turn("c1")], "the calls c1"),
        ([USER, a_turn("c1"), USER], "the calls c1"),
        ([USER, a_result("c1")], "the results c1 have no call"),
        ([a_result("c1"), USER], "the results c1"),
        ([USER, a_turn("c1"), a_result("c1"), {"role": "assistant", "content": "x"}, a_result("c1")], "the results c1"),
    ],
)
def test_a_history_with_gaps_goes_to_the_next_candidate_with_its_reason(messages: list[dict[str, Any]], words: str):
    with pytest.raises(UpstreamRejected, match=words) as caught:
        to_turns(messages)

    assert (caught.value.fallback, caught.value.param, caught.value.maybe_billed) == (True, "messages", False)


@pytest.mark.parametrize(
    "messages",
    [
        [USER, a_turn("c1", "c2"), a_result("c2"), a_result("c1")],
        [USER, a_turn("c1"), a_turn("c2"), a_result("c1"), a_result("c2")],
        [USER, a_turn("c1"), USER, a_result("c1"), a_turn("c2"), a_result("c2"), USER],
    ],
)
def test_a_history_without_gaps_is_translated(messages: list[dict[str, Any]]):
    _, turns = to_turns(messages)

    assert turns
