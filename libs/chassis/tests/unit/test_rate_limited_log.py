"""Repeated failures log at a bounded rate."""

from __future__ import annotations

import logging

import pytest
from chassis.aio import ConnectionLog, loops
from chassis.telemetry import logger, rate_limited
from chassis.telemetry.libraries import limit_library
from chassis.telemetry.rate_limited import RateLimitedLog
from chassis.testing.logs import captured_lines


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    for module in (rate_limited, loops):
        monkeypatch.setattr(module, "monotonic", time)
    return time


def test_a_thousand_failures_are_one_line_and_the_next_line_counts_them(time: Time) -> None:
    limited = RateLimitedLog(logger("test"), interval_seconds=10)
    with captured_lines() as lines:
        for _ in range(1000):
            limited.warning("store_refused", key="PUBLISH", reason="NOPERM")
        time.now += 10
        limited.warning("store_refused", key="PUBLISH", reason="NOPERM")

    assert [line["suppressed"] for line in lines] == [0, 999]
    assert {line["reason"] for line in lines} == {"NOPERM"}


def test_each_key_has_a_rate_of_its_own(time: Time) -> None:
    limited = RateLimitedLog(logger("test"), interval_seconds=10)
    with captured_lines() as lines:
        for key in ("a", "b", "a"):
            limited.warning("store_refused", key=key)

    assert len(lines) == 2


def test_a_connection_that_flaps_logs_at_a_bounded_rate(time: Time) -> None:
    connection = ConnectionLog(logger("test"), "lost", "recovered")
    with captured_lines() as lines:
        for _ in range(50):
            connection.set(connected=False, error="closed")
            connection.set(connected=True)
        time.now += 60
        connection.set(connected=False, error="closed")
        connection.set(connected=True)

    assert [line["event"] for line in lines] == ["lost", "recovered", "lost", "recovered"]
    assert lines[2]["suppressed"] == 49


def test_an_outage_whose_reason_changes_logs_the_new_reason(time: Time) -> None:
    connection = ConnectionLog(logger("test"), "lost", "recovered")
    with captured_lines() as lines:
        connection.set(connected=False, error="refused")
        time.now += 60
        connection.set(connected=False, error="refused")
        connection.set(connected=False, error="NOPERM")

    assert [line["error"] for line in lines] == ["refused", "NOPERM"]


def test_the_reason_that_only_a_library_knows_is_logged_at_a_bounded_rate(time: Time) -> None:
    limit_library("library_of_this_test")
    library = logging.getLogger("library_of_this_test.connection")
    with captured_lines() as lines:
        for broker in range(100):
            library.error("Unable connect to broker %s: %s", broker, "SASL authentication failed")
            library.warning("retrying")

    (line,) = lines
    assert line["message"] == "Unable connect to broker 0: SASL authentication failed"
    assert line["library"] == "library_of_this_test.connection"
