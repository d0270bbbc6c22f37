"""The breaker, in time that the test gives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from chassis.redis import CircuitBreaker
from chassis.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    return CircuitBreaker("redis", failures=3, rest_seconds=1.0, now=clock.monotonic)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.admit()
        breaker.failed()


def test_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    breaker.admit()
    breaker.failed()

    assert breaker.open
    with pytest.raises(Unavailable, match="redis does not answer"):
        breaker.admit()


def test_after_a_rest_one_call_passes_and_its_success_closes_it(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(timedelta(seconds=1))

    breaker.admit()
    with pytest.raises(Unavailable):
        breaker.admit()
    breaker.succeeded()

    assert not breaker.open
    breaker.admit()
    fail(breaker, 2)
    assert not breaker.open


def test_a_trial_that_fails_begins_another_rest(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(timedelta(seconds=1))
    fail(breaker, 1)

    clock.advance(timedelta(seconds=0.9))
    with pytest.raises(Unavailable):
        breaker.admit()
    clock.advance(timedelta(seconds=0.1))
    breaker.admit()


def test_a_trial_that_is_never_heard_of_again_is_followed_by_another(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(timedelta(seconds=1))
    breaker.admit()

    clock.advance(timedelta(seconds=1))
    breaker.admit()
