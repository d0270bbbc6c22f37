"""Streams as upstreams really send them: events that are no chunks, errors inside, usage told more than once."""

import json
from typing import Any

import pytest
from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
)
from inference_worker.providers.openai.chat import OpenaiProvider
from raw_http_server import RawHttpServer, close
from values.usage import TokenUsage, UsageSource
from worker_fakes import a_body, text_of

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
REPORTED = TokenUsage(UsageSource.REPORTED, 7, 5)
DONE = "data: [DONE]\n\n"


def a_chunk(content: str | None = None, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}


def sse(*documents: dict[str, Any], end: str = DONE) -> str:
    return "".join(f"data: {json.dumps(document)}\n\n" for document in documents) + end


def answer(*documents: dict[str, Any]) -> str:
    """A whole stream of an ordinary answer, with `documents` in its middle."""
    return sse(a_chunk("a"), *documents, a_chunk("b"), a_chunk(reason="stop"), a_chunk(choices=[], usage=USAGE))


class Answered:
    """What a provider made of a response."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.error: UpstreamFailed | None = None
        self.usage: TokenUsage | None = None
        self.usage_payload = b""

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.payloads]

    @property
    def text(self) -> str:
        return text_of(self.payloads)


async def converse(
    body: str | bytes, *, stream: bool = True, content_type: str | None = "text/event-stream", headers: str = ""
) -> Answered:
    """Let an upstream answer with exactly these bytes, and read all of it."""
    answered = Answered()
    body = body.encode() if isinstance(body, str) else body
    if content_type is not None:
        headers += f"content-type: {content_type}\r\n"
    head = f"HTTP/1.1 200 OK\r\n{headers}content-length: {len(body)}\r\n\r\n".encode()
    server = RawHttpServer(head + body, then=close)
    async with server.client() as client:
        try:
            completion = await OpenaiProvider(client).open("m", a_body(stream=stream), stream=stream)
        except UpstreamFailed as error:
            answered.error = error
            return answered
        try:
            while payloads := await completion.read():
                answered.payloads += payloads
        except UpstreamFailed as error:
            answered.error = error
        finally:
            completion.abort()
        answered.usage, answered.usage_payload = completion.usage, completion.usage_payload
    return answered


@pytest.mark.parametrize(
    "other",
    [
        "event: ping\ndata: {}\n\n",
        'event: ping\ndata: {"type": "ping"}\n\n',
        'event: status\ndata: {"status": "queued", "message": "position 3"}\n\n',
        'event: thought\ndata: {"choices": [{"index": 0, "delta": {"content": "secret"}}]}\n\n',
        'data: {"type": "ping"}\n\n',
        'data: {"type": "citation", "delta": {"content": "no"}}\n\n',
        'id: 3\nretry: 10\ndata: {"object": "chat.progress", "created": 3}\n\n',
        ": OPENROUTER PROCESSING\n\n",
        "event: heartbeat\n\n",
        "data\n\n",
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_an_event_that_is_no_chunk_is_not_sent_and_starts_no_answer(other: str, first: bool):
    body = other + answer() if first else sse(a_chunk("a"), end=other) + sse(a_chunk("b"), a_chunk(reason="stop"))

    answered = await converse(body)

    assert answered.error is None
    assert answered.text == "ab"
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in answered.chunks)


async def test_a_named_event_that_says_it_is_a_chunk_is_one():
    answered = await converse(f"event: chunk\ndata: {json.dumps(a_chunk('a'))}\n\n" + answer())

    assert answered.text == "aab"


OPENROUTERS_ERROR = {
    "id": "g",
    "choices": [
        {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": {"code": 429, "message": "x"}},
    ],
}

ERRORS: list[tuple[str, type[UpstreamFailed], str]] = [
    ('event: error\ndata: {"message": "too many", "code": 429}\n\n', UpstreamRateLimited, ""),
    ('event: error\ndata: {"detail": "bad temperature", "status": 400}\n\n', UpstreamRejected, "bad temperature"),
    ("event: error\ndata: {}\n\n", UpstreamFailed, ""),
    ('data: {"error": {"message": "bad", "code": 400}}\n\n', UpstreamRejected, "bad"),
    ('data: {"error": {"message": "bad", "code": null}}\n\n', UpstreamFailed, ""),
    ('data: {"error": {"message": "bad", "type": "invalid_request_error"}}\n\n', UpstreamRejected, "bad"),
    ('data: {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}\n\n', UpstreamRateLimited, ""),
    ('data: {"error": "bad thing"}\n\n', UpstreamFailed, ""),
    ('data: {"object": "error", "message": "too long", "code": 400}\n\n', UpstreamRejected, "too long"),
    ('data: {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}\n\n', UpstreamOverloaded, ""),
    ('data: {"code": 400, "message": "no such parameter"}\n\n', UpstreamRejected, "no such parameter"),
    (
        'data: {"detail": [{"msg": "field required", "loc": []}], "status_code": 422}\n\n',
        UpstreamRejected,
        "field",
    ),
    ('data: {"error_code": 17, "error_msg": "limit"}\n\n', UpstreamFailed, ""),
    ('data: {"base_resp": {"status_code": 1004, "status_msg": "x"}, "choices": null}\n\n', UpstreamFailed, ""),
    ('data: [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "x"}}]\n\n', UpstreamRateLimited, ""),
    (sse(OPENROUTERS_ERROR, end=""), UpstreamRateLimited, ""),
]


@pytest.mark.parametrize(("event", "kind", "words"), ERRORS)
async def test_an_error_event_before_the_first_chunk_is_that_error_and_costs_nothing(
    event: str, kind: type[UpstreamFailed], words: str
):
    answered = await converse(event + DONE)

    assert answered.payloads == []
    assert type(answered.error) is kind
    assert answered.error is not None
    assert words in answered.error.message
    assert not answered.error.maybe_billed
    assert answered.error.fallback is (kind is not UpstreamRejected)


@pytest.mark.parametrize(("event", "kind", "words"), ERRORS)
async def test_an_error_event_after_the_first_chunk_interrupts_the_answer(
    event: str, kind: type[UpstreamFailed], words: str
):
    answered = await converse(sse(a_chunk("a"), end=event + DONE))

    assert answered.text == "a"
    assert type(answered.error) is UpstreamInterrupted
    assert words in answered.error.message


async def test_an_error_that_is_null_or_says_success_is_none():
    answered = await converse(answer(a_chunk("c", error=None), a_chunk("d", error={"code": 0, "message": ""})))

    assert answered.error is None
    assert answered.text == "acdb"


async def test_usage_beside_an_error_is_used():
    event = {"error": {"message": "died", "code": 500}, "usage": USAGE}

    answered = await converse(sse(event))

    assert answered.usage == REPORTED
    assert answered.error is not None
    assert answered.error.maybe_billed


RUNNING = [{**USAGE, "completion_tokens": tokens, "total_tokens": 7 + tokens} for tokens in (1, 3, 5)]


@pytest.mark.parametrize(
    "body",
    [
        # vLLM's continuous usage, with a last chunk and without it.
        sse(a_chunk("a", usage=RUNNING[0]), a_chunk("b", "stop", usage=RUNNING[2]), a_chunk(choices=[], usage=USAGE)),
        sse(a_chunk("a", usage=RUNNING[0]), a_chunk("b", "stop", usage=RUNNING[2])),
        # With the finish reason, and once more.
        sse(a_chunk("a"), a_chunk("b", "stop", usage=USAGE), a_chunk(choices=[], usage=USAGE)),
        # OpenAI's null in every chunk.
        sse(a_chunk("a", usage=None), a_chunk("b", "stop", usage=None), a_chunk(choices=[], usage=USAGE)),
        # The last chunk twice; without a list of choices.
        sse(a_chunk("a"), a_chunk("b", "stop"), a_chunk(choices=[], usage=USAGE), a_chunk(choices=[], usage=USAGE)),
        sse(a_chunk("a"), a_chunk("b", "stop"), {"id": "c1", "usage": USAGE}),
        # Groq's and Moonshot's places.
        sse(a_chunk("a"), a_chunk("b", "stop", x_groq={"id": "r", "usage": USAGE})),
        sse(
            a_chunk("a"),
            a_chunk(choices=[{"index": 0, "delta": {"content": "b"}, "finish_reason": "stop", "usage": USAGE}]),
        ),
    ],
)
async def test_usage_is_kept_out_of_the_chunks_however_often_it_is_told(body: str):
    answered = await converse(body)

    assert answered.error is None
    assert answered.text == "ab"
    assert b'"usage": {' not in b"".join(answered.payloads)
    assert b'"usage":{' not in b"".join(answered.payloads)
    assert answered.usage == REPORTED
    last = json.loads(answered.usage_payload)
    assert (last["choices"], last["usage"], last["id"]) == ([], USAGE, "c1")


async def test_a_role_that_is_repeated_is_sent_once_for_each_choice():
    def with_role(index: int, content: str) -> dict[str, Any]:
        return a_chunk(choices=[{"index": index, "delta": {"role": "assistant", "content": content}}])

    answered = await converse(sse(*(with_role(index, "x") for index in (0, 1, 0, 1, 0)), a_chunk(reason="stop")))

    deltas = [(choice["index"], choice["delta"]) for chunk in answered.chunks for choice in chunk["choices"]]
    assert [index for index, delta in deltas if "role" in delta] == [0, 1]
    assert answered.text == "xxxxx"


async def test_a_stream_without_any_role_gets_one_in_its_first_chunk():
    answered = await converse(answer())

    choices = [choice for chunk in answered.chunks for choice in chunk["choices"]]
    assert ["role" in choice["delta"] for choice in choices] == [True, False, False]


async def test_what_azure_says_of_the_prompt_comes_with_the_first_chunk_that_has_a_choice():
    found = [{"prompt_index": 0, "content_filter_results": {}}]
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": found}

    answered = await converse(sse(first, end="") + answer())

    assert {chunk["id"] for chunk in answered.chunks} == {"c1"}
    assert [chunk.get("prompt_filter_results") for chunk in answered.chunks] == [found, None, None]


COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "ab"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}


@pytest.mark.parametrize("content_type", ["application/json", "text/json; charset=x", "text/event-stream", None])
async def test_json_for_a_stream_is_given_as_chunks(content_type: str | None):
    answered = await converse(json.dumps(COMPLETION, indent=2), content_type=content_type)

    assert answered.error is None
    assert answered.text == "ab"
    assert {chunk["object"] for chunk in answered.chunks} == {"chat.completion.chunk"}
    assert answered.chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert answered.usage == REPORTED
    assert json.loads(answered.usage_payload)["usage"] == USAGE


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", None])
async def test_a_stream_for_json_is_given_as_one_body(content_type: str | None):
    answered = await converse(answer(), stream=False, content_type=content_type)

    assert answered.error is None
    (body,) = answered.chunks
    assert body == COMPLETION
    assert answered.usage == REPORTED


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize(
    ("document", "kind", "words"),
    [
        ({"error": {"message": "bad", "code": 400}}, UpstreamRejected, "bad"),
        ({"error": {"message": "x", "code": 429}}, UpstreamRateLimited, ""),
        ({"error": {"message": "x", "code": 500}}, UpstreamFailed, "500"),
        ({"error": {"message": "x", "code": "429"}}, UpstreamRateLimited, ""),
        ([{"error": {"message": "bad", "code": 400, "status": "INVALID_ARGUMENT"}}], UpstreamRejected, "bad"),
        ({"error": {"message": "no", "status": "UNAVAILABLE"}}, UpstreamOverloaded, "503"),
        ({"detail": "Not Found", "status": 404}, UpstreamModelNotFound, "Not Found"),
        ({"choices": [], "code": 400, "message": "bad"}, UpstreamRejected, "bad"),
    ],
)
async def test_an_error_object_with_status_200_is_that_error_however_it_is_labelled(
    document: Any, kind: type[UpstreamFailed], words: str, content_type: str, stream: bool
):
    answered = await converse(json.dumps(document), stream=stream, content_type=content_type)

    assert type(answered.error) is kind
    assert answered.error is not None
    assert words in answered.error.message
    assert not answered.error.maybe_billed


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_beside_an_error_object_is_used(stream: bool):
    document = {"error": {"message": "died", "code": 502}, "usage": USAGE}

    answered = await converse(json.dumps(document), stream=stream, content_type="application/json")

    assert answered.usage == REPORTED
    assert answered.error is not None
    assert answered.error.maybe_billed


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("body", "content_type", "named"),
    [
        ("<!DOCTYPE html><title>login</title>", "text/html", "an HTML page"),
        ("<html>", None, "an HTML page"),
        ("upstream connect error", "text/plain", "text/plain"),
        ("", "application/json", "an empty body"),
        ("<?xml version='1.0'?>", "application/xml", "application/xml"),
    ],
)
async def test_the_message_names_what_came_instead(body: str, content_type: str | None, named: str, stream: bool):
    answered = await converse(body, stream=stream, content_type=content_type)

    assert type(answered.error) is UpstreamProtocolError
    assert named in answered.error.message


async def test_a_number_that_orjson_refuses_spoils_nothing():
    event = json.dumps(a_chunk("c", usage=USAGE, logprob=float("-inf")))

    answered = await converse(sse(a_chunk("a"), end=f"data: {event}\n\n") + sse(a_chunk("b"), a_chunk(reason="stop")))

    assert answered.error is None
    assert answered.text == "acb"
