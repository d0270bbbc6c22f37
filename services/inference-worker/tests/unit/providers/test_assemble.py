"""Streams as providers send them, and the completions that come of them."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_worker.providers.assemble import CompletionAssembler
from inference_worker.providers.model import UpstreamFailed, UpstreamProtocolError
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from values.limits import MAX_CHAT_BYTES

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000, "model": "gpt-x"}


def a_chunk(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**HEAD, **fields, "choices": list(choices)}


def a_choice(delta: Any, finish_reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason, **fields}


def assembled(chunks: Sequence[Any], usage: dict[str, Any] | None = None) -> Any:
    assembler = CompletionAssembler()
    for chunk in chunks:
        assembler.add(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode())
    return json.loads(assembler.result(json.dumps(usage).encode() if usage else b""))


def message_of(chunks: Sequence[Any]) -> Any:
    return assembled(chunks)["choices"][0]["message"]


def as_the_sdk_does(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """OpenAI's own client, which puts streams together for those who ask it to."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    return state.get_final_completion().model_dump(exclude_none=True)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


# As OpenAI streams them.
TEXT = [
    a_chunk(a_choice({"role": "assistant", "content": "", "refusal": None}, logprobs=None), system_fingerprint="fp_1"),
    a_chunk(a_choice({"content": "Hel"}, logprobs=None), system_fingerprint="fp_1"),
    a_chunk(a_choice({"content": "lo"}, logprobs=None), system_fingerprint="fp_1"),
    a_chunk(a_choice({}, "stop", logprobs=None), system_fingerprint="fp_1"),
]
USAGE = {**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
TWO_CHOICES = [
    a_chunk(a_choice({"role": "assistant", "content": ""}, index=1)),
    a_chunk(a_choice({"role": "assistant", "content": ""})),
    a_chunk(a_choice({"content": "b1"}, index=1)),
    a_chunk(a_choice({"content": "a1"}), a_choice({"content": "b2"}, index=1)),
    a_chunk(a_choice({}, "stop", index=1)),
    a_chunk(a_choice({"content": "a2"})),
    a_chunk(a_choice({}, "length")),
]


def a_call(index: int | None, name: str | None = None, arguments: Any = None, call_id: str | None = None) -> Any:
    call: dict[str, Any] = {} if index is None else {"index": index}
    if call_id is not None:
        call |= {"id": call_id, "type": "function"}
    call["function"] = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return call


PARALLEL_CALLS = [
    a_chunk(a_choice({"role": "assistant", "content": None, "tool_calls": [a_call(0, "weather", "", "call_a")]})),
    a_chunk(a_choice({"tool_calls": [a_call(0, arguments='{"city"')]})),
    a_chunk(a_choice({"tool_calls": [a_call(0, arguments=': "Paris"}')]})),
    a_chunk(a_choice({"tool_calls": [a_call(1, "time", "", "call_b")]})),
    a_chunk(a_choice({"tool_calls": [a_call(1, arguments="{}")]})),
    a_chunk(a_choice({}, "tool_calls")),
]
LOGPROBS = [
    a_chunk(a_choice({"role": "assistant", "content": ""})),
    *(
        a_chunk(
            a_choice(
                {"content": text},
                logprobs={"content": [{"token": text, "logprob": -0.5, "top_logprobs": []}], "refusal": None},
            )
        )
        for text in "ab"
    ),
    a_chunk(a_choice({}, "stop")),
]
REFUSAL = [
    a_chunk(a_choice({"role": "assistant", "content": None, "refusal": ""})),
    a_chunk(a_choice({"refusal": "I can"})),
    a_chunk(a_choice({"refusal": "not."})),
    a_chunk(a_choice({}, "stop")),
]
# The client can read neither a second choice that comes first nor a text that was cut off.
IN_ORDER = [TWO_CHOICES[1], TWO_CHOICES[0], *TWO_CHOICES[2:-1], a_chunk(a_choice({}, "stop"))]
STREAMS = {"text": TEXT, "n=2": IN_ORDER, "parallel": PARALLEL_CALLS, "logprobs": LOGPROBS, "refusal": REFUSAL}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_of_openai_become_what_its_own_client_makes_of_them(name: str):
    chunks = STREAMS[name]
    found, expected = without_nulls(assembled(chunks)), without_nulls(as_the_sdk_does(chunks))
    for choice in expected["choices"]:
        for call in choice["message"].get("tool_calls") or []:
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)

    assert found == expected


def test_a_text_has_its_finish_reason_its_fields_and_its_usage():
    found = assembled(TEXT, USAGE)

    assert found == {
        **HEAD,
        "object": "chat.completion",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE["usage"],
    }


def test_usage_within_the_stream_counts_when_it_is_not_null():
    chunks = [{**TEXT[0], "usage": None}, {**TEXT[1], "usage": {"total_tokens": 9}}, {**TEXT[3], "usage": None}]

    assert assembled(chunks)["usage"] == {"total_tokens": 9}


def test_choices_are_told_apart_and_sorted():
    choices = assembled(TWO_CHOICES)["choices"]

    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in choices] == [
        (0, "a1a2", "length"),
        (1, "b1b2", "stop"),
    ]


def test_parallel_tool_calls_are_told_apart():
    message = message_of(PARALLEL_CALLS)

    assert message["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
        {"id": "call_b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    assert message["content"] is None


@pytest.mark.parametrize("index", [0, None])
def test_calls_that_all_have_one_index_or_none_are_told_apart_by_their_ids(index: int | None):
    chunks = [
        a_chunk(a_choice({"tool_calls": [a_call(index, "one", "{", "a")]})),
        a_chunk(a_choice({"tool_calls": [a_call(index, arguments="}")]})),
        a_chunk(a_choice({"tool_calls": [a_call(index, "two", "{}", "b"), a_call(index, "three", "{}", "c")]})),
    ]

    calls = message_of(chunks)["tool_calls"]

    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls] == [
        ("a", "one", "{}"),
        ("b", "two", "{}"),
        ("c", "three", "{}"),
    ]


def test_a_name_that_is_repeated_is_one_name_and_one_in_pieces_is_whole():
    repeated = [a_chunk(a_choice({"tool_calls": [a_call(0, "weather", part, "a")]})) for part in ("{", "}")]
    pieces = [a_chunk(a_choice({"tool_calls": [a_call(0, part, "", "a")]})) for part in ("get_", "weather")]

    assert message_of(repeated)["tool_calls"][0]["function"] == {"name": "weather", "arguments": "{}"}
    assert message_of(pieces)["tool_calls"][0]["function"]["name"] == "get_weather"


def test_arguments_that_are_an_object_become_its_json_and_a_missing_type_is_added():
    chunks = [a_chunk(a_choice({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]}))]

    (call,) = message_of(chunks)["tool_calls"]

    assert call == {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}


def test_the_older_function_call_is_put_together():
    chunks = [
        a_chunk(a_choice({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}})),
        a_chunk(a_choice({"function_call": {"arguments": '{"a":'}})),
        a_chunk(a_choice({"function_call": {"arguments": "1}"}}, "function_call")),
    ]

    assert message_of(chunks)["function_call"] == {"name": "f", "arguments": '{"a":1}'}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_put_together_beside_the_content(field: str):
    chunks = [
        a_chunk(a_choice({"role": "assistant", field: "think"})),
        a_chunk(a_choice({"role": "assistant", field: "ing", "content": None})),
        a_chunk(a_choice({"role": "assistant", "content": "done"}, "stop")),
    ]

    assert message_of(chunks) == {"role": "assistant", "content": "done", field: "thinking"}


def test_lists_of_a_delta_grow_and_content_in_parts_stays_in_parts():
    chunks = [
        a_chunk(a_choice({"content": [{"type": "thinking", "thinking": "hm"}], "annotations": [{"n": 1}]})),
        a_chunk(a_choice({"content": "Hello", "annotations": [{"n": 2}]})),
    ]

    message = message_of(chunks)

    assert message["content"] == [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello"}]
    assert message["annotations"] == [{"n": 1}, {"n": 2}]


def test_sound_grows_and_its_id_stays():
    chunks = [
        a_chunk(a_choice({"audio": {"id": "audio_1", "transcript": "Hel"}})),
        a_chunk(a_choice({"audio": {"data": "AA"}})),
        a_chunk(a_choice({"audio": {"data": "BB", "transcript": "lo", "expires_at": 7}})),
    ]

    assert message_of(chunks)["audio"] == {"id": "audio_1", "transcript": "Hello", "data": "AABB", "expires_at": 7}


def test_fields_that_nobody_knows_survive():
    chunks = [
        a_chunk(a_choice({"content": "x", "vendor": {"a": 1}}, content_filter_results={"hate": False}), provider="p"),
        a_chunk(a_choice({}, "stop", stop_reason=7), service_tier="default"),
    ]

    found = assembled(chunks)

    assert (found["provider"], found["service_tier"]) == ("p", "default")
    assert found["choices"][0]["message"]["vendor"] == {"a": 1}
    assert found["choices"][0]["content_filter_results"] == {"hate": False}
    assert found["choices"][0]["stop_reason"] == 7


def test_choices_without_an_index_and_chunks_without_a_delta_are_read():
    chunks = [
        {"choices": [{"delta": {"content": "a"}}]},
        {"choices": [{"delta": None, "finish_reason": None}]},
        {"id": "x"},
        {"choices": None},
        {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]},
    ]

    assert message_of(chunks)["content"] == "ab"


def test_a_whole_message_at_the_end_replaces_the_deltas():
    chunks = [
        a_chunk(a_choice({"content": "Hel"})),
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]},
    ]

    assert message_of(chunks) == {"role": "assistant", "content": "Hello"}


def test_a_character_whose_halves_came_in_two_chunks_is_whole():
    halves = [
        b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}',
        b'{"choices":[{"delta":{"content":"\\ude00"}}]}',
    ]

    assert message_of(halves)["content"] == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    "payload",
    [b"nonsense", b"[]", b'{"choices": 7}', b'{"choices": [7]}', b'{"choices": [{"delta": "x"}]}',
     b'{"choices": [{"delta": {"tool_calls": 1}}]}', b'{"choices": [{"delta": {"tool_calls": [1]}}]}'],
)  # fmt: skip
def test_what_is_no_chunk_is_refused_with_a_typed_error(payload: bytes):
    with pytest.raises(UpstreamProtocolError, match="cannot be put together"):
        CompletionAssembler().add(payload)


def test_a_stream_without_a_choice_is_refused():
    with pytest.raises(UpstreamProtocolError, match="no choice"):
        assembled([{**HEAD, "choices": []}])


def test_an_answer_that_no_job_can_hold_is_refused():
    assembler = CompletionAssembler()
    megabyte = json.dumps(a_chunk(a_choice({"content": "x" * 1024 * 1024}))).encode()
    for _ in range(MAX_CHAT_BYTES // len(megabyte) + 1):
        assembler.add(megabyte)

    with pytest.raises(UpstreamFailed, match="larger than"):
        assembler.result()


@given(st.lists(st.text(max_size=5), min_size=1, max_size=20), st.data())
def test_a_text_is_the_same_however_it_is_cut(pieces: list[str], data: st.DataObject):
    index = data.draw(st.lists(st.integers(0, 3), min_size=len(pieces), max_size=len(pieces)))
    chunks = [a_chunk(a_choice({"content": piece}, index=at)) for piece, at in zip(pieces, index, strict=True)]

    choices = assembled(chunks)["choices"]

    for choice in choices:
        expected = "".join(piece for piece, at in zip(pieces, index, strict=True) if at == choice["index"])
        assert choice["message"]["content"] == expected
    assert [choice["index"] for choice in choices] == sorted(set(index))
