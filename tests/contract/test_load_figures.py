"""The figures, tables and charts of the bench."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load import budget, environments, goals, payloads, report, show
from tests.load.chart import Bar, bars
from tests.load.connection import Answer
from tests.load.figures import added, change_percent, median, percentile, spread
from tests.load.turns import compared, quartiles
from tests.load.watch import is_replica

EVENTS = b'data: {"a": "data: not one"}\n\ndata: {"b": 1}\n\ndata: [DONE]\n\n'


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]

    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1) == 100
    assert percentile([], 0.5) == 0


def test_a_spread_sorts_and_counts_milliseconds() -> None:
    assert spread([0.003, 0.001, 0.002], "latency", (50, 100)) == {"latency_p50_ms": 2.0, "latency_p100_ms": 3.0}


def test_a_median_takes_each_figure_by_itself_and_adds_up_errors() -> None:
    runs = [
        {"per_second": 10, "errors": 1, "cpu": {"gateway": 3.0}, "problems": {}},
        {"per_second": 30, "errors": 0, "cpu": {"gateway": 1.0}, "problems": {"status 503": 2}},
        {"per_second": 20, "errors": 2, "cpu": {"gateway": 2.0}, "problems": {}},
    ]

    assert median(runs) == {"per_second": 20, "errors": 3, "cpu": {"gateway": 2.0}, "problems": {"status 503": 2}}


def test_added_latency_is_the_difference_to_the_direct_target() -> None:
    through = {"latency_p50_ms": 3.5, "per_second": 50, "gap_p99_ms": 51.0}
    direct = {"latency_p50_ms": 0.5, "per_second": 50}

    assert added(through, direct) == {"latency_p50_ms": 3.0}


def test_a_change_needs_something_to_compare_with() -> None:
    assert change_percent(150, 100) == pytest.approx(50)
    assert change_percent(150, 0) is None


@given(st.lists(st.integers(0, len(EVENTS)), max_size=20))
def test_events_are_counted_once_however_the_stream_is_split(cuts: list[int]) -> None:
    answer = Answer(due=0.0, streamed=True, status=200)
    places = sorted({0, *cuts, len(EVENTS)})

    for moment, (start, stop) in enumerate(pairwise(places), start=1):
        answer.read(EVENTS[start:stop], float(moment))
    answer.end(99.0)

    assert answer.events == 3
    assert not answer.problem
    assert answer.latest - answer.first == pytest.approx(sum(answer.gaps))


def test_events_that_come_together_have_no_gap() -> None:
    answer = Answer(due=0.0, streamed=True, status=200)

    answer.read(EVENTS, 1.0)
    answer.read(EVENTS, 3.0)

    assert answer.first == 1.0
    assert answer.gaps == [2.0]


def test_a_stream_without_its_end_mark_is_an_error() -> None:
    answer = Answer(due=0.0, streamed=True, status=200)

    answer.read(b'data: {"error": {"message": "cut"}}\n\n', 1.0)
    answer.end(2.0)

    assert "DONE" in answer.problem


def test_an_error_status_is_reported_with_the_response() -> None:
    answer = Answer(due=0.0, streamed=False, status=503)

    answer.read(b'{"error": "busy"}', 1.0)
    answer.end(2.0)

    assert answer.problem == 'status 503: {"error": "busy"}'


@pytest.mark.parametrize("size", [1024, 2048, 10_240, 1_048_576])
def test_a_body_has_the_given_size(size: int) -> None:
    body = payloads.chat_body("instant", stream=True, size_bytes=size)

    assert len(body) == size
    assert json.loads(body)["stream"] is True


@pytest.mark.parametrize("lock", sorted(environments.LOCKS.glob("*.lock")), ids=lambda lock: lock.name)
def test_environments_of_the_bench_are_pinned_with_hashes_and_without_addresses(lock: Path) -> None:
    text = lock.read_text()
    pins = re.findall(r"^[a-z0-9][\w.-]*(?:\[[\w,-]+\])?==\S+", text, re.MULTILINE)

    assert pins
    assert len(re.findall(r"\n    --hash=sha256:.*?(?=\n    #|\n\S|\Z)", text, re.DOTALL)) == len(pins)
    assert "://" not in text


def test_the_upstreams_response_agrees_with_its_usage() -> None:
    head, _, body = payloads.complete_response().partition(b"\r\n\r\n")
    answer = json.loads(body)

    assert f"content-length: {len(body)}".encode() in head
    assert len(answer["choices"][0]["message"]["content"].split()) == answer["usage"]["completion_tokens"] == 60
    assert sum(b'" token"' in piece for piece in payloads.stream_pieces()) == 100


def test_only_replicas_count_to_their_service() -> None:
    assert is_replica("gateway", "gateway")
    assert is_replica("gateway-2", "gateway")
    assert not is_replica("gateway-migrate", "gateway")


def test_the_budget_shows_the_change_against_the_baseline() -> None:
    table = budget.rows(
        {"cpu_us_per_request": {"gateway": 110.0, "new": 5.0}}, {"cpu_us_per_request": {"gateway": 100.0}}
    )

    assert table[1] == ("gateway per request", "110.0", "100.0", "+10 %")
    assert table[2] == ("new per request", "5.0", "–", "–")


RESULT = {
    "title": "saturation",
    "median": {
        "direct": {"per_second": 60_000.0, "latency_p50_ms": 0.5, "errors": 0},
        "fleet": {
            "per_second": 1_512.4,
            "latency_p50_ms": 20.5,
            "errors": 0,
            "busy_percent": {"subject": 100, "around": 50},
            "drain_seconds": 0.2,
            "cpu_us_per_request": {"gateway": 110.0, "all": 110.0},
        },
    },
    "added": {"fleet": {"latency_p50_ms": 20.0}},
}
RESULTS = {
    "command": "python -m tests.load.bench",
    "date": "2026-01-01T00:00:00+00:00",
    "commit": "abc",
    "machine": {"cpu": "A CPU", "cores": 2, "memory_gb": 24, "system": "Linux", "python": "3.11", "pinned": True},
    "loads": {"saturation": RESULT},
}


def test_a_load_is_shown_beside_the_direct_target_with_the_difference() -> None:
    assert show.load_rows(RESULT)[:3] == [
        ("", "direct", "fleet", "added"),
        ("requests/s", "60,000", "1,512", ""),
        ("latency p50, ms", "0.50", "20.50", "20.00"),
    ]


def test_the_terminal_and_the_page_have_the_same_figures() -> None:
    assert "1,512" in show.text(RESULTS)
    assert "| requests/s | 60,000 | 1,512 |  |" in report.loads(RESULTS)


def test_the_report_replaces_figures_and_keeps_text() -> None:
    page = "before\n<!-- figures: bench -->\nold\n<!-- end -->\nafter\n<!-- figures: growth -->\n<!-- end -->\n"

    text = report.replaced(page, "bench", ["new"])

    assert text == page.replace("old", "\nnew\n")
    with pytest.raises(KeyError):
        report.replaced(page, "compare", [])


def test_a_goal_that_is_missed_is_marked_and_one_that_was_not_measured_is_left_out() -> None:
    slow = {"loads": {"saturation": {"median": {"fleet": {"per_second": 900.0}}}}}

    assert goals.rows(RESULTS)[1:] == [("requests/s, all five services on one core", "1,512", "≥ 1,500", "")]
    assert goals.rows(slow)[1][-1] == "missed"
    assert goals.rows({}) == []


def test_a_chart_escapes_text_and_draws_every_bar() -> None:
    svg = bars("a < b", "ms", [Bar("one & two", 2.0), Bar("three", 1.0, ours=False)], limit=3.0)

    assert "a &lt; b" in svg
    assert "one &amp; two" in svg
    assert svg.count("<rect") == 2
    assert report.load_charts(RESULTS).keys() == {"cpu-per-request.svg"}


def test_two_checkouts_are_compared_within_each_turn() -> None:
    # The machine became twice as slow after the first turn; this checkout costs 10 % more in each.
    turns = [({"all": 100.0}, {"all": 110.0}), ({"all": 200.0}, {"all": 220.0}), ({"all": 200.0}, {"all": 220.0})]

    assert compared("request", turns)[1] == ("all", "200.0", "220.0", "1.100", "1.100 to 1.100", "+20.0", "+15.0")


def test_a_service_that_the_other_checkout_does_not_have_is_no_ratio() -> None:
    assert compared("chunk", [({}, {"guard": 3.0})])[1] == ("guard", "–", "3.0", "–", "–", "–", "–")


def test_quartiles_are_between_the_values_that_were_measured() -> None:
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
