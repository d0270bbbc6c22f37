from datetime import timedelta

import pytest
from chassis.testing.logs import captured_lines
from chassis.testing.traces import recorded_spans
from inference_worker.plans.model import Attempt, AttemptOutcome, Candidate
from inference_worker.plans.telemetry import AttemptTelemetry
from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRejected,
)
from prometheus_client import REGISTRY
from values.usage import UNKNOWN_USAGE, TokenUsage, UsageSource


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"inference_worker_{name}", labels) or 0.0


def an_attempt(usage: TokenUsage, outcome: AttemptOutcome = AttemptOutcome.SUCCEEDED) -> Attempt:
    return Attempt(1, 0, outcome, usage, timedelta(seconds=0.2), timedelta(seconds=1))


def test_an_attempt_is_counted_with_its_first_byte_and_its_tokens():
    observer = AttemptTelemetry(["counted"])

    span = observer.start(Candidate("counted", "m"), 1, "default")
    span.finish(an_attempt(TokenUsage(UsageSource.REPORTED, 7, 3)), None)

    assert value("attempts_total", upstream="counted", outcome="succeeded") == 1
    assert value("first_byte_seconds_sum", upstream="counted") == 0.2
    assert value("tokens_total", upstream="counted", direction="input", source="reported") == 7
    assert value("tokens_total", upstream="counted", direction="output", source="reported") == 3


def test_unknown_usage_has_its_own_counter():
    span = AttemptTelemetry(["vague"]).start(Candidate("vague", "m"), 1, "default")
    span.finish(
        an_attempt(UNKNOWN_USAGE, AttemptOutcome.INTERRUPTED),
        UpstreamInterrupted("the upstream's response was interrupted"),
    )

    assert value("unknown_usage_total", upstream="vague") == 1
    assert value("attempts_total", upstream="vague", outcome="interrupted") == 1


def test_names_that_are_not_configured_do_not_become_labels():
    span = AttemptTelemetry([]).start(Candidate("invented", "m"), 1, "default")
    span.finish(an_attempt(TokenUsage(UsageSource.COUNTED, 0, 0), AttemptOutcome.REJECTED), None)

    assert value("attempts_total", upstream="invented", outcome="rejected") == 0
    assert value("attempts_total", upstream="unknown", outcome="rejected") == 1


SECRET = "the mayor's illness"


@pytest.mark.parametrize("error", [UpstreamRejected(f"cannot parse: {SECRET}"), UpstreamProtocolError("not JSON")])
def test_a_prompt_in_an_error_is_neither_logged_nor_traced(error: UpstreamFailed):
    error.__cause__ = ValueError(f"unexpected: {SECRET}")

    with captured_lines() as lines, recorded_spans() as spans:
        AttemptTelemetry(["quoting"]).start(Candidate("quoting", "m"), 1, "default").finish(
            an_attempt(TokenUsage(UsageSource.COUNTED, 0, 0), AttemptOutcome.REJECTED), error
        )

    (span,) = spans()
    assert [(line["event"], line["reason"]) for line in lines] == [("attempt_failed", error.reason)]
    assert span.attributes is not None
    assert span.attributes["error.type"] == error.reason
    assert SECRET not in f"{lines} {span.to_json()}"


def test_our_own_message_is_logged_and_an_unreachable_address():
    error = UpstreamFailed("the upstream cannot be reached")
    error.__cause__ = ConnectionRefusedError("127.0.0.1:8100")

    with captured_lines() as lines:
        AttemptTelemetry(["down"]).start(Candidate("down", "m"), 1, "default").finish(
            an_attempt(TokenUsage(UsageSource.COUNTED, 0, 0), AttemptOutcome.REJECTED), error
        )

    assert [(line["error"], line["cause"]) for line in lines] == [(error.message, "127.0.0.1:8100")]
