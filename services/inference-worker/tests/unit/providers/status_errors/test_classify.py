"""Bodies as providers document them, or as public bug reports quote them; the words are shortened."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from inference_worker.providers.status_errors.classify import classify
from inference_worker.providers.status_errors.model import RefusalKind as Kind

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def openai(message: str, code: str | None = None, kind: str | None = "invalid_request_error", param: str | None = None):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def anthropic(kind: str, message: str):
    return {"type": "error", "error": {"type": kind, "message": message}}


def google(code: int, status: str, message: str, *details: dict[str, object]):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


CASES = [
    (
        400,
        openai("This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
        Kind.CONTEXT_TOO_LONG,
    ),
    (400, anthropic("invalid_request_error", "prompt is too long: 209303 tokens > 200000"), Kind.CONTEXT_TOO_LONG),
    (
        400,
        anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 2"),
        Kind.CONTEXT_TOO_LONG,
    ),
    (400, openai("Input tokens exceed the configured limit of 272000 tokens."), Kind.CONTEXT_TOO_LONG),
    (400, openai("The input (9 tokens) is longer than the model's context length (8 tokens)."), Kind.CONTEXT_TOO_LONG),
    (400, {"error": {"code": 400, "message": "m", "type": "exceed_context_size_error"}}, Kind.CONTEXT_TOO_LONG),
    (400, [google(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum")], Kind.CONTEXT_TOO_LONG),
    (429, openai("Request too large for gpt-4o on tokens per min", "rate_limit_exceeded"), Kind.CONTEXT_TOO_LONG),
    (
        400,
        {"object": "error", "message": "Prompt too large for model with 8 maximum context length", "type": "x"},
        Kind.CONTEXT_TOO_LONG,
    ),
    (
        400,
        {"error": {"code": "content_filter", "message": "m", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
        Kind.CONTENT_FILTERED,
    ),
    (400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), Kind.CONTENT_FILTERED),
    (
        403,
        {"error": {"code": 403, "message": "m", "metadata": {"reasons": ["violence"], "flagged_input": "x"}}},
        Kind.CONTENT_FILTERED,
    ),
    (
        400,
        openai("Unsupported parameter: 'max_tokens'.", "unsupported_parameter", param="max_tokens"),
        Kind.UNSUPPORTED_PARAMETER,
    ),
    (400, openai("Unrecognized request argument supplied: foo"), Kind.UNSUPPORTED_PARAMETER),
    (
        400,
        anthropic(
            "invalid_request_error", "This model does not support assistant message prefill. The conversation must"
        ),
        Kind.UNSUPPORTED_PARAMETER,
    ),
    (
        422,
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "foo"], "msg": "Extra inputs"}]},
        Kind.UNSUPPORTED_PARAMETER,
    ),
    (404, openai("The model `x` does not exist", "model_not_found"), Kind.UNKNOWN_MODEL),
    (404, anthropic("not_found_error", "model: claude-x"), Kind.UNKNOWN_MODEL),
    (404, {"error": {"code": "DeploymentNotFound", "message": "m"}}, Kind.UNKNOWN_MODEL),
    (403, openai("Project does not have access to model x", "model_not_found"), Kind.UNKNOWN_MODEL),
    (
        422,
        {"detail": [{"type": "missing", "loc": ["body", "messages", 0, "content"], "msg": "Field required"}]},
        Kind.INVALID_REQUEST,
    ),
    (400, {"detail": "bad"}, Kind.INVALID_REQUEST),
    (401, openai("Incorrect API key provided", "invalid_api_key"), Kind.CREDENTIAL_REFUSED),
    (401, anthropic("authentication_error", "invalid x-api-key"), Kind.CREDENTIAL_REFUSED),
    (400, [google(400, "INVALID_ARGUMENT", "m", {"reason": "API_KEY_INVALID"})], Kind.CREDENTIAL_REFUSED),
    (403, anthropic("permission_error", "m"), Kind.CREDENTIAL_REFUSED),
    (402, openai("Insufficient Balance"), Kind.ACCOUNT_EMPTY),
    (429, openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), Kind.ACCOUNT_EMPTY),
    (400, anthropic("invalid_request_error", "Your credit balance is too low"), Kind.ACCOUNT_EMPTY),
    (429, openai("Rate limit reached", "rate_limit_exceeded", "requests"), Kind.RATE_LIMITED),
    (429, google(429, "RESOURCE_EXHAUSTED", "m", {"retryDelay": "3.5s"}), Kind.RATE_LIMITED),
    (429, "too many requests", Kind.RATE_LIMITED),
    (529, anthropic("overloaded_error", "Overloaded"), Kind.OVERLOADED),
    (503, "<html><title>503 Service Unavailable</title></html>", Kind.OVERLOADED),
    (500, openai("The server had an error", None, "server_error"), Kind.SERVER_ERROR),
    # llama.cpp's issues 13566, 15377 and 12947, livekit's 4559: what this model cannot read, as a server's error.
    (
        500,
        openai("image input is not supported - hint: you may need", None, "server_error"),
        Kind.UNSUPPORTED_PARAMETER,
    ),
    (500, openai('Failed to parse messages: Unsupported content part type: "image_url"'), Kind.UNSUPPORTED_PARAMETER),
    (500, openai("tools param requires --jinja flag", None, "server_error"), Kind.UNSUPPORTED_PARAMETER),
    (503, openai("gemini image input is not enabled: message 5 contains"), Kind.UNSUPPORTED_PARAMETER),
    # A proxy that calls every refusal a server's error.
    (401, openai("bad key", None, "server_error"), Kind.CREDENTIAL_REFUSED),
    (402, openai("please pay", None, "server_error"), Kind.ACCOUNT_EMPTY),
    (429, openai("slow down", None, "server_error"), Kind.RATE_LIMITED),
    # The words of a request that a server's error quotes say nothing about its cause.
    (500, openai("failed on: image input is not supported"), Kind.SERVER_ERROR),
    (502, "<html><h1>Bad Gateway</h1></html>", Kind.SERVER_ERROR),
    (504, "", Kind.TIMEOUT),
    (200, anthropic("overloaded_error", "Overloaded"), Kind.OVERLOADED),
    (200, {"error": {"code": 429, "message": "slow down"}}, Kind.RATE_LIMITED),
    (200, {"error": {"code": 400, "message": "bad"}}, Kind.INVALID_REQUEST),
    (200, {"error": {"message": "what"}}, Kind.SERVER_ERROR),
]


def encoded(body: object) -> bytes:
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


@pytest.mark.parametrize(("status", "body", "kind"), CASES)
def test_each_refusal_is_of_its_kind(status: int, body: object, kind: Kind):
    assert classify(status, {}, encoded(body), now=NOW).kind is kind


@pytest.mark.parametrize(
    "words",
    ["Invalid value: 'your credit balance is too low'.", "Invalid value: 'Incorrect API key provided'."],
)
def test_words_that_a_client_wrote_do_not_count_against_our_account(words: str):
    assert classify(400, {}, encoded(openai(words)), now=NOW).kind is Kind.INVALID_REQUEST


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (openai("m", "unsupported_parameter", param="max_tokens"), "max_tokens"),
        (openai("Unrecognized request argument supplied: foo"), "foo"),
        ({"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "Field required"}]}, "messages[0].content"),
    ],
)
def test_the_parameter_is_kept(body: object, param: str):
    assert classify(400, {}, encoded(body), now=NOW).param == param


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, "", 7),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, "", 60),
        ({"retry-after-ms": "1500", "retry-after": "2"}, "", 1.5),
        ({"x-ratelimit-reset-requests": "1m30s"}, "", 90),
        ({"x-ratelimit-reset-tokens": "6ms"}, "", 0.006),
        (
            {
                "x-ratelimit-reset-requests": "1h", "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "20s", "x-ratelimit-remaining-tokens": "0",
            },
            "",
            20,
        ),
        ({"anthropic-ratelimit-requests-reset": "2026-01-01T00:00:30Z"}, "", 30),
        ({"x-ratelimit-reset": "1767225610000"}, "", 10),
        ({}, google(429, "RESOURCE_EXHAUSTED", "m", {"retryDelay": "3.5s"}), 3.5),
        ({}, openai("Rate limit reached. Please try again in 1m30s.", "rate_limit_exceeded"), 90),
        ({}, openai("Please retry after 6 seconds."), 6),
    ],
)  # fmt: skip
def test_the_wait_is_read_in_each_form(headers: dict[str, str], body: object, seconds: float):
    assert classify(429, headers, encoded(body), now=NOW).wait == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "soon", "-1", "nan", "1e9", "9" * 40])
def test_a_wait_that_cannot_be_read_is_none(value: str):
    assert classify(429, {"retry-after": value, "x-ratelimit-reset": value}, b"", now=NOW).wait is None
