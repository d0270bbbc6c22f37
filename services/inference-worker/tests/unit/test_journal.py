from datetime import timedelta

from inference_worker.adapters.journal import TelemetryJournal
from inference_worker.domain.account import Attempt, Outcome
from inference_worker.domain.failures import UpstreamCut
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
