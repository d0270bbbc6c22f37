import pytest
from inference_worker.adapters.refusals import MESSAGE_CHARACTERS, message_of, refusal, sanitised

KEY = "hunter2hunter2"


@pytest.mark.parametrize(
    ("status", "reason", "fallback"),
    [
        (302, "UPSTREAM_FAILED", True),
        (400, "UPSTREAM_REFUSED", False),
        (401, "UPSTREAM_FAILED", True),
        (402, "UPSTREAM_FAILED", True),
        (403, "UPSTREAM_FAILED", True),
        (404, "UPSTREAM_REFUSED", False),
        (408, "UPSTREAM_TIMED_OUT", True),
        (409, "UPSTREAM_FAILED", True),
        (413, "UPSTREAM_REFUSED", False),
        (422, "UPSTREAM_REFUSED", False),
        (429, "UPSTREAM_RATE_LIMITED", True),
        (500, "UPSTREAM_FAILED", True),
        (503, "UPSTREAM_FAILED", True),
        (504, "UPSTREAM_TIMED_OUT", True),
        (529, "UPSTREAM_FAILED", True),
    ],
)
def test_a_status_says_whose_fault_it_is_and_never_costs(status: int, reason: str, fallback: bool):
    failure = refusal(status, "message of the provider", ())

    assert (failure.reason, failure.fallback, failure.may_have_cost) == (reason, fallback, False)


@pytest.mark.parametrize("status", [401, 403, 500, 429])
def test_only_a_refused_request_keeps_the_providers_words(status: int):
    assert "secret project" not in refusal(status, "secret project", ()).message
    assert "secret project" in refusal(400, "secret project", ()).message


@pytest.mark.parametrize(
    "message",
    [
        f"the key {KEY} is wrong",
        "Incorrect API key provided: sk-proj-abcdefgh1234",
        "Authorization: Bearer abcdefgh1234.xyz",
    ],
)
def test_nothing_that_looks_like_a_credential_is_shown(message: str):
    shown = sanitised(message, (KEY,))

    assert KEY not in shown
    assert "abcdefgh1234" not in shown
    assert "***" in shown


def test_a_message_is_one_bounded_line():
    shown = sanitised("a\r\nb\x00c" + "x" * 10_000, ())

    assert shown.startswith("a b c")
    assert len(shown) == MESSAGE_CHARACTERS


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
def test_the_words_are_found_in_every_usual_shape(body: bytes, message: str):
    assert message_of(body) == message
