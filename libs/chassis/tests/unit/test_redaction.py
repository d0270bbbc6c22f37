"""API keys are masked in logs, spans and error messages."""

import logging

import pytest
from chassis.errors import InvalidRequest, Kind, RemoteError
from chassis.http import openai_error
from chassis.telemetry import logger, span
from chassis.telemetry.logs import configure_logs
from chassis.telemetry.redaction import mask_keys
from chassis.testing.logs import captured_lines
from chassis.testing.traces import recorded_spans

SECRET = "0aB9" * 8
KEY = f"argosy_live_{'7' * 22}_{SECRET}AbCdEf"
PROVIDER_KEY = f"sk-proj-{SECRET}"


@pytest.mark.parametrize("key", [KEY, PROVIDER_KEY, KEY[:-6]])
def test_a_key_is_cut_down_to_its_prefix_wherever_it_stands(key: str) -> None:
    masked = mask_keys(f"GET /v1/models/{key}?a={key}&b=1 said '{key}'.")

    assert SECRET[:8] not in masked
    assert masked.count("[redacted]") == 3
    assert "?a=" in masked


@pytest.mark.parametrize(
    "text", ["argosy_test_db", "argosy_gateway_requests_total", "task-0123456789abcdef0123", "key_01a21b1f", "", "sk-1"]
)
def test_other_text_is_left_alone(text: str) -> None:
    assert mask_keys(text) == text


def test_log_lines_have_no_key_in_any_field_event_or_exception() -> None:
    configure_logs("info", "test")
    with captured_lines() as lines:
        log = logger("test")
        log.info("not_found", message=f"There is no request {KEY}.", nested={KEY: [KEY]})
        try:
            raise ValueError(KEY)
        except ValueError:
            log.exception("failed")
        logging.getLogger("uvicorn.error").warning("Invalid request: GET /v1/%s", PROVIDER_KEY)

    assert len(lines) == 3
    assert SECRET[:8] not in str(lines)


def test_spans_have_no_key() -> None:
    failure = RemoteError(Kind.NOT_FOUND, "REQUEST_NOT_FOUND", f"There is no request {KEY}.")
    with recorded_spans() as spans, span("GET /v1/requests/{request_id}", path=f"/v1/requests/{KEY}") as current:
        current.fail(failure)

    (ended,) = spans()
    assert ended.status.description is not None
    assert SECRET[:8] not in ended.to_json() + ended.status.description


def test_error_bodies_have_no_key() -> None:
    assert SECRET[:8] not in str(openai_error(InvalidRequest(f"There is no {KEY}.", param=PROVIDER_KEY)))
