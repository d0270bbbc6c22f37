import pytest
from inference_worker.providers.transport.errors import MAX_MESSAGE_CHARACTERS, error_message, redact, status_error

KEY = "hunter2hunter2"


@pytest.mark.parametrize(
    ("status", "reason", "fallback"),
    [
        (302, "UPSTREAM_FAILED", True),
        (400, "UPSTREAM_REJECTED", False),
        (401, "UPSTREAM_FAILED", True),
        (402, "UPSTREAM_FAILED", True),
        (403, "UPSTREAM_FAILED", True),
        (404, "UPSTREAM_REJECTED", False),
        (408, "UPSTREAM_TIMED_OUT", True),
        (409, "UPSTREAM_FAILED", True),
        (413, "UPSTREAM_REJECTED", False),
        (422, "UPSTREAM_REJECTED", False),
        (429, "UPSTREAM_RATE_LIMITED", True),
        (500, "UPSTREAM_FAILED", True),
        (503, "UPSTREAM_FAILED", True),
        (504, "UPSTREAM_TIMED_OUT", True),
        (529, "UPSTREAM_FAILED", True),
    ],
)
def test_a_status_decides_on_error_and_fallback_and_is_never_billed(status: int, reason: str, fallback: bool):
    error = status_error(status, "message of the provider", ())

    assert (error.reason, error.fallback, error.maybe_billed) == (reason, fallback, False)


@pytest.mark.parametrize("status", [401, 403, 500, 429])
def test_only_a_rejected_request_keeps_the_providers_message(status: int):
    assert "secret project" not in status_error(status, "secret project", ()).message
    assert "secret project" in status_error(400, "secret project", ()).message


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


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "m"}}', "m"),
        (b'{"error": "m"}', "m"),
        (b'{"message": "m"}', "m"),
        (b'{"detail": "m"}', "m"),
        (b'{"detail": [{"loc": 1}]}', ""),
        (b'["m"]', ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_the_message_is_found_in_every_usual_shape(body: bytes, message: str):
    assert error_message(body) == message
