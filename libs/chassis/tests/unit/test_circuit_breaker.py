"""The breaker, in time that the test gives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from chassis.circuit_breaker import CircuitBreaker
from chassis.errors import Unavailable
from chassis.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    return CircuitBreaker("redis", max_failures=3, open_seconds=1.0, now=clock.monotonic)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.before_call()
        breaker.record_failure()


def test_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.record_success()
    fail(breaker, 2)
    breaker.before_call()
    breaker.record_failure()

    assert breaker.open
    with pytest.raises(Unavailable, match="redis does not answer"):
        breaker.before_call()


def test_after_a_rest_one_call_passes_and_its_success_closes_it(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(timedelta(seconds=1))

    breaker.before_call()
    with pytest.raises(Unavailable):
        breaker.before_call()
    breaker.record_success()

    assert not breaker.open
    breaker.before_call()
    fail(breaker, 2)
    assert not breaker.open


def test_a_trial_that_fails_begins_another_rest(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(timedelta(seconds=1))
    fail(breaker, 1)

    clock.advance(timedelta(seconds=0.9))
    with pytest.raises(Unavailable):
        breaker.before_call()
    clock.advance(timedelta(seconds=0.1))
    breaker.before_call()


def test_a_trial_without_an_outcome_is_followed_by_another(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(timedelta(seconds=1))
    breaker.before_call()

    clock.advance(timedelta(seconds=1))
    breaker.before_call()
