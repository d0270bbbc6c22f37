"""Candidates are ordered by how fast they answered in the last hour."""

from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.testing import FakeClock
from orchestrator.reservations.model import TokenBound
from orchestrator.routing.eligibility import RequestFacts
from orchestrator.routing.model import RouteCandidate
from orchestrator.routing.scores import FAILURE_SECONDS, MIN_CALLS, PERIOD_SECONDS, PERIODS, Scores
from orchestrator.workers.model import CallOutcome, Candidate, CandidateRole, ProviderCall

A, B = (RouteCandidate(name, "m", 1000) for name in "ab")
PLAN = tuple(Candidate(one.upstream, one.model, TokenBound(one.price_key, 1, 1)) for one in (A, B))
STREAM, NON_STREAMED = RequestFacts(stream=True), RequestFacts()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scores(clock: FakeClock) -> Scores:
    return Scores(clock)


def call(candidate: int, outcome: CallOutcome = CallOutcome.SUCCEEDED, first: float = 0.2) -> ProviderCall:
    return ProviderCall(candidate, outcome, first, 10 * first)


def learn(scores: Scores, *calls: ProviderCall, times: int = MIN_CALLS, stream: bool = True) -> None:
    for _ in range(times):
        scores.learn(PLAN, calls, stream=stream)


def test_the_mean_time_to_the_first_byte_counts_for_streams(scores: Scores) -> None:
    learn(scores, call(0, first=0.2))
    learn(scores, call(0, first=0.4))

    assert scores.delay(A, STREAM) == pytest.approx(0.3)


def test_the_whole_time_counts_for_answers_that_are_not_streamed_and_apart_from_streams(scores: Scores) -> None:
    learn(scores, call(0, first=0.2), stream=False)

    assert scores.delay(A, NON_STREAMED) == pytest.approx(2.0)
    assert scores.delay(A, STREAM) == 0


def test_a_candidate_with_few_calls_is_taken_for_the_fastest(scores: Scores) -> None:
    learn(scores, call(0), times=MIN_CALLS - 1)
    assert scores.delay(A, STREAM) == 0

    learn(scores, call(0), times=1)
    assert scores.delay(A, STREAM) == pytest.approx(0.2)


def test_a_failed_call_counts_for_much(scores: Scores) -> None:
    learn(scores, call(0), times=19)
    learn(scores, call(0, CallOutcome.FAILED), times=1)

    assert scores.delay(A, STREAM) == pytest.approx((19 * 0.2 + 2.0 + FAILURE_SECONDS) / 20)


def test_a_rejection_counts_only_when_another_candidate_took_the_request(scores: Scores) -> None:
    learn(scores, call(0, CallOutcome.REJECTED), call(1, CallOutcome.REJECTED))
    assert scores.delay(A, STREAM) == 0

    learn(scores, call(0, CallOutcome.REJECTED), call(1))
    assert scores.delay(A, STREAM) > FAILURE_SECONDS
    assert scores.delay(B, STREAM) == pytest.approx(0.2)


@pytest.mark.parametrize("role", [CandidateRole.CONTEXT_OVERFLOW, CandidateRole.CONTENT_POLICY])
def test_what_a_fallback_of_another_role_took_does_not_count_against_those_who_refused_it(
    scores: Scores, role: CandidateRole
) -> None:
    fallback = PLAN[1]._replace(role=role)
    for _ in range(MIN_CALLS):
        scores.learn((PLAN[0], fallback), (call(0, CallOutcome.REJECTED), call(1)), stream=True)

    assert scores.delay(A, STREAM) == 0
    assert scores.delay(B, STREAM) == pytest.approx(0.2)


def test_a_refusal_for_length_or_content_counts_neither_as_time_nor_as_failure(scores: Scores) -> None:
    learn(scores, call(0), times=MIN_CALLS)
    learn(scores, call(0, CallOutcome.REFUSED, first=3.0), call(1))

    assert scores.delay(A, STREAM) == pytest.approx(0.2)
    assert scores.delay(B, STREAM) == pytest.approx(0.2)
    assert {(one.price_key, one.calls) for one in scores.take_unshared()} == {("a/m", MIN_CALLS), ("b/m", MIN_CALLS)}


def test_what_a_client_ended_tells_nothing(scores: Scores) -> None:
    learn(scores, call(0, CallOutcome.OTHER))

    assert scores.delay(A, STREAM) == 0


def test_calls_are_forgotten_after_an_hour(scores: Scores, clock: FakeClock) -> None:
    learn(scores, call(0))
    clock.advance(timedelta(seconds=PERIOD_SECONDS * (PERIODS - 1)))
    learn(scores, call(0, first=0.6))
    assert scores.delay(A, STREAM) == pytest.approx(0.4)

    clock.advance(timedelta(seconds=PERIOD_SECONDS))
    assert scores.delay(A, STREAM) == pytest.approx(0.6)
    clock.advance(timedelta(seconds=PERIOD_SECONDS * PERIODS))
    assert scores.delay(A, STREAM) == 0


def test_the_models_of_an_upstream_are_counted_apart(scores: Scores) -> None:
    learn(scores, call(0))

    assert scores.delay(replace(A, model="other"), STREAM) == 0


def test_a_call_of_no_candidate_of_the_plan_is_left_out(scores: Scores) -> None:
    learn(scores, call(7))

    assert scores.delay(A, STREAM) == scores.delay(B, STREAM) == 0
