"""Bodies of the hot routes are checked, and errors name the parameter."""

import json
from typing import Any

import pytest
from chassis.errors import InvalidRequest
from gateway.embeddings.schemas import read_embeddings
from gateway.inference.limits import InferenceLimits
from gateway.openai_chat.schemas import read_chat
from gateway.web.errors import InvalidJson
from hypothesis import given
from hypothesis import strategies as st

LIMITS = InferenceLimits(max_output_tokens=1_000, max_messages=5, max_choices=2)
USER = {"role": "user", "content": "Hello"}
CHAT: dict[str, Any] = {"model": "smollm2", "messages": [USER]}


def chat(**fields: Any) -> bytes:
    return json.dumps(CHAT | fields).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stream": None, "n": None, "max_tokens": None, "temperature": None, "top_p": None, "argosy": None},
        {"stream": True, "stream_options": {"include_usage": True, "other": 1}},
        {"n": 2, "max_tokens": 1_000, "max_completion_tokens": 1, "temperature": 2, "top_p": 0},
        {"tools": [{"type": "function"}], "response_format": {"type": "json_object"}, "anything": {"else": [1.5]}},
        {"messages": [{"role": "developer", "content": "Be brief."}, USER]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "1"}]}]},
        {"messages": [{"role": "tool", "content": "42", "tool_call_id": "1"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"argosy": {"retrieval": {"vector_store_ids": ["vs_1"], "query": "q", "limit": 50, "optional": True}}},
        {"argosy": {"retrieval": {"vector_store_ids": ["vs_1"], "filters": {"type": "in", "key": "a", "value": []}}}},
        {"argosy": {"metadata": {"a": "b"}}},
    ],
)
def test_valid_bodies_are_accepted(fields: dict[str, Any]) -> None:
    assert read_chat(chat(**fields), LIMITS).model == "smollm2"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [USER] * 6}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "user", "content": 7}]}, "messages[1].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"n": 0}, "n"),
        ({"n": 3}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"n": 10**30}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1_001}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": -1}, "top_p"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"argosy": "please"}, "argosy"),
        ({"argosy": {"retrieval": {}}}, "argosy.retrieval.vector_store_ids"),
        ({"argosy": {"retrieval": {"vector_store_ids": []}}}, "argosy.retrieval.vector_store_ids"),
        ({"argosy": {"retrieval": {"vector_store_ids": [""]}}}, "argosy.retrieval.vector_store_ids"),
        ({"argosy": {"retrieval": {"vector_store_ids": ["v"] * 11}}}, "argosy.retrieval.vector_store_ids"),
        ({"argosy": {"retrieval": {"vector_store_ids": ["v", 1]}}}, "argosy.retrieval.vector_store_ids[1]"),
        ({"argosy": {"retrieval": {"vector_store_ids": ["v"], "query": " "}}}, "argosy.retrieval.query"),
        ({"argosy": {"retrieval": {"vector_store_ids": ["v"], "limit": 0}}}, "argosy.retrieval.limit"),
        ({"argosy": {"retrieval": {"vector_store_ids": ["v"], "filters": {"a": 1}}}}, "argosy.retrieval.filters"),
        ({"argosy": {"retrieval": {"vector_store_ids": ["v"], "filters": [1]}}}, "argosy.retrieval.filters"),
        ({"argosy": {"retrieval": {"vector_store_ids": ["v"], "limit": 51}}}, "argosy.retrieval.limit"),
        ({"argosy": {"metadata": []}}, "argosy.metadata"),
    ],
)
def test_invalid_bodies_are_refused_with_the_parameter(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_chat(chat(**fields), LIMITS)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'"text"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_chat(body, LIMITS)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_chat(b"{}", LIMITS)
    assert caught.value.param == "model"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (lambda: read_chat(body, LIMITS), lambda: read_embeddings(body)):
        try:
            read()
        except (InvalidJson, InvalidRequest) as error:
            assert error.message  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("fields", "texts"),
    [({"input": "one"}, ["one"]), ({"input": ["one", "two"], "dimensions": 8, "encoding_format": "base64"}, None)],
)
def test_texts_are_read_one_or_many(fields: dict[str, Any], texts: list[str] | None) -> None:
    _, read = read_embeddings(json.dumps({"model": "m"} | fields).encode())
    assert read == (texts or ["one", "two"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input[0]"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [1, "a"]}, "input"),
        ({"input": [1, [2]]}, "input"),
        ({"input": ["a", [2]]}, "input"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": [[1], ["a"]]}, "input[1][0]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": [[1], [2**31]]}, "input[1]"),
        ({"input": [1.5]}, "input[0]"),
        ({"input": [True]}, "input[0]"),
        ({"input": [[1]] * 2049}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 10**9}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "model": ""}, "model"),
    ],
)
def test_texts_that_cannot_be_embedded_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_embeddings(json.dumps({"model": "m"} | fields).encode())
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ([9906, 1917], [(9906, 1917)]),
        ([[9906, 1917]], [(9906, 1917)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
        ([0], [(0,)]),
        ([[2**31 - 1]], [(2**31 - 1,)]),
        ([1] * 5000, [(1,) * 5000]),
    ],
)
def test_token_ids_are_read_and_an_array_of_numbers_is_one_input(given: list[Any], inputs: list[Any]) -> None:
    _, read = read_embeddings(json.dumps({"model": "m", "input": given}).encode())
    assert read == inputs
