import orjson
import pytest
from inference_worker.providers.transport.errors import MAX_MESSAGE_CHARACTERS, redact, refused

KEY = "hunter2hunter2"


@pytest.mark.parametrize(
    ("status", "reason", "fallback"),
    [
        (302, "UPSTREAM_FAILED", True),
        (400, "UPSTREAM_REJECTED", False),
        (401, "UPSTREAM_ACCOUNT_UNAVAILABLE", True),
        (402, "UPSTREAM_ACCOUNT_UNAVAILABLE", True),
        (403, "UPSTREAM_ACCOUNT_UNAVAILABLE", True),
        (404, "UPSTREAM_MODEL_NOT_FOUND", True),
        (408, "UPSTREAM_TIMED_OUT", True),
        (409, "UPSTREAM_OVERLOADED", True),
        (413, "UPSTREAM_REJECTED", False),
        (422, "UPSTREAM_REJECTED", False),
        (429, "UPSTREAM_RATE_LIMITED", True),
        (500, "UPSTREAM_FAILED", True),
        (503, "UPSTREAM_OVERLOADED", True),
        (504, "UPSTREAM_TIMED_OUT", True),
        (529, "UPSTREAM_OVERLOADED", True),
    ],
)
def test_a_status_decides_on_error_and_fallback_and_is_never_billed(status: int, reason: str, fallback: bool):
    error = refused(status, {}, b"", ())

    assert (error.reason, error.fallback, error.maybe_billed) == (reason, fallback, False)


@pytest.mark.parametrize("status", [401, 403, 500, 429])
def test_only_a_rejected_request_keeps_the_providers_message(status: int):
    body = orjson.dumps({"error": {"message": "secret project"}})

    assert "secret project" not in refused(status, {}, body, ()).message
    assert "secret project" in refused(400, {}, body, ()).message


@pytest.mark.parametrize(
    "message",
    [
        f"the key {KEY} is wrong",
        "Incorrect API key provided: sk-proj-abcdefgh1234",
        "Authorization: Bearer abcdefgh1234.xyz",
    ],
)
def test_everything_that_looks_like_a_credential_is_redacted(message: str):
    redacted = redact(message, (KEY,))

    assert KEY not in redacted
    assert "abcdefgh1234" not in redacted
    assert "***" in redacted


def test_a_message_is_one_bounded_line():
    redacted = redact("a\r\nb\x00c" + "x" * 10_000, ())

    assert redacted.startswith("a b c")
    assert len(redacted) == MAX_MESSAGE_CHARACTERS
