from datetime import timedelta

import pytest
from argosy.inference.v1 import inference_pb2
from chassis.errors import InvalidRequest
from inference_worker.plans.model import Attempt, AttemptOutcome, Finished
from inference_worker.plans.protos import OUTCOMES, finished_to_proto, proto_to_plan
from values.protos import duration_to_proto
from values.usage import NO_USAGE, TokenUsage, UsageSource


def test_an_invalid_plan_is_refused():
    candidate = inference_pb2.Candidate(upstream="fake", model="m", body=b"{}")
    negative = duration_to_proto(timedelta(seconds=-1))

    for plan, param in [
        (inference_pb2.Plan(), "plan.candidates"),
        (inference_pb2.Plan(candidates=[candidate] * 17), "plan.candidates"),
        (inference_pb2.Plan(candidates=[inference_pb2.Candidate(upstream="fake", model="m")]), "plan.candidates.body"),
        (inference_pb2.Plan(candidates=[candidate], deadline=negative), "deadline"),
        (inference_pb2.Plan(candidates=[candidate], idle_timeout=negative), "idle_timeout"),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            proto_to_plan(plan)
        assert caught.value.param == param


def test_a_plan_without_timeouts_gets_the_defaults():
    plan = proto_to_plan(
        inference_pb2.Plan(candidates=[inference_pb2.Candidate(upstream="fake", model="m", body=b"{}")])
    )

    assert plan.deadline == timedelta(minutes=10)
    assert plan.first_byte_timeout == timedelta(minutes=1)
    assert plan.idle_timeout == timedelta(minutes=1)


def test_a_duration_of_zero_is_present_on_the_wire():
    usage, zero = TokenUsage(UsageSource.REPORTED, 1, 1), timedelta(0)
    finished = Finished(
        (Attempt(1, 0, AttemptOutcome.SUCCEEDED, usage, zero, timedelta(days=1, microseconds=7)),), None
    )

    (attempt,) = finished_to_proto(finished).finished.attempts

    assert attempt.HasField("first_byte_after")
    assert attempt.duration.ToTimedelta() == timedelta(days=1, microseconds=7)


def test_a_refused_request_is_a_rejection_that_says_so():
    known = (1, 0, AttemptOutcome.REJECTED, NO_USAGE, None, timedelta(0), None)
    finished = Finished((Attempt(*known, True), Attempt(*known)), None)

    refused, rejected = finished_to_proto(finished).finished.attempts

    assert refused.outcome == rejected.outcome == inference_pb2.ATTEMPT_OUTCOME_REJECTED
    assert (refused.request_refused, rejected.request_refused) == (True, False)


def test_every_outcome_has_a_value_on_the_wire():
    assert set(OUTCOMES) == set(AttemptOutcome)
    assert len(set(OUTCOMES.values())) == len(AttemptOutcome)
