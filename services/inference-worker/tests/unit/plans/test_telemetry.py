from datetime import timedelta

import pytest
from chassis.testing.logs import captured_lines
from chassis.testing.traces import recorded_spans
from inference_worker.adapters.journal import TelemetryJournal
from inference_worker.domain.account import Attempt, Outcome
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed, UpstreamGarbage, UpstreamRefused
from inference_worker.domain.plan import Candidate
from inference_worker.domain.usage import UNKNOWN, Usage, UsageSource
from prometheus_client import REGISTRY


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"inference_worker_{name}", labels) or 0.0


def an_attempt(usage: Usage, outcome: Outcome = Outcome.ANSWERED) -> Attempt:
    return Attempt(1, 0, outcome, usage, timedelta(seconds=0.2), timedelta(seconds=1))


def test_an_attempt_counts_itself_its_first_byte_and_its_tokens():
    journal = TelemetryJournal(["counted"])

    entry = journal.began(Candidate("counted", "m"), 1)
    entry.ended(an_attempt(Usage(UsageSource.REPORTED, 7, 3)), None)

    assert value("attempts_total", upstream="counted", outcome="answered") == 1
    assert value("first_byte_seconds_sum", upstream="counted") == 0.2
    assert value("tokens_total", upstream="counted", direction="input", source="reported") == 7
    assert value("tokens_total", upstream="counted", direction="output", source="reported") == 3


def test_unknown_usage_is_counted_as_such():
    entry = TelemetryJournal(["vague"]).began(Candidate("vague", "m"), 1)
    entry.ended(an_attempt(UNKNOWN, Outcome.CUT), UpstreamCut("the upstream broke off its answer"))

    assert value("unknown_usage_total", upstream="vague") == 1
    assert value("attempts_total", upstream="vague", outcome="cut") == 1


def test_names_that_callers_invent_do_not_become_labels():
    entry = TelemetryJournal([]).began(Candidate("invented", "m"), 1)
    entry.ended(an_attempt(Usage(UsageSource.COUNTED, 0, 0), Outcome.REFUSED), None)

    assert value("attempts_total", upstream="invented", outcome="refused") == 0
    assert value("attempts_total", upstream="unknown", outcome="refused") == 1


SECRET = "the mayor's illness"


@pytest.mark.parametrize("failed", [UpstreamRefused(f"cannot parse: {SECRET}"), UpstreamGarbage("not JSON")])
def test_what_a_client_wrote_is_neither_logged_nor_traced(failed: UpstreamFailed):
    failed.__cause__ = ValueError(f"unexpected: {SECRET}")

    with captured_lines() as lines, recorded_spans() as spans:
        TelemetryJournal(["quoting"]).began(Candidate("quoting", "m"), 1).ended(
            an_attempt(Usage(UsageSource.COUNTED, 0, 0), Outcome.REFUSED), failed
        )

    (span,) = spans()
    assert [(line["event"], line["reason"]) for line in lines] == [("attempt_failed", failed.reason)]
    assert span.attributes["error.type"] == failed.reason
    assert SECRET not in f"{lines} {span.to_json()}"


def test_our_own_words_are_logged_and_an_address_that_nobody_answers():
    failed = UpstreamFailed("the upstream cannot be reached")
    failed.__cause__ = ConnectionRefusedError("127.0.0.1:8100")

    with captured_lines() as lines:
        TelemetryJournal(["down"]).began(Candidate("down", "m"), 1).ended(
            an_attempt(Usage(UsageSource.COUNTED, 0, 0), Outcome.REFUSED), failed
        )

    assert [(line["error"], line["cause"]) for line in lines] == [(failed.message, "127.0.0.1:8100")]
