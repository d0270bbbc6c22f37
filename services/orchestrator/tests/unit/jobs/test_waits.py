"""Jobs that wait without consuming an attempt: for money, for a part of the fleet, for a provider."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.errors import Kind, RemoteError, Unavailable
from chassis.ids import new_id
from orchestrator.jobs.model import JobState
from orchestrator.jobs.submit import JobRequest
from orchestrator.routing.choose import RouteCache, RouteTable
from orchestrator.usage.model import Attempt

from services.orchestrator.tests.fakes import FakeRouteStore
from services.orchestrator.tests.harness import reported
from services.orchestrator.tests.in_memory_jobs.tables import VirtualClock
from services.orchestrator.tests.jobs_examples import BODY
from services.orchestrator.tests.jobs_harness import ANSWER, USED, JobsHarness


async def test_without_money_a_job_waits_and_consumes_no_attempt(jobs: JobsHarness, clock: VirtualClock) -> None:
    jobs.peers.metering.available = 0

    claimed = await jobs.start()

    assert (claimed.work, claimed.reason) == (None, "INSUFFICIENT_QUOTA")
    job = await jobs.job(claimed.run.key)
    assert (job.state, job.state_reason, job.errors, job.crashes) == (JobState.QUEUED, "insufficient_quota", 0, 0)
    jobs.peers.metering.available = 10**15
    clock.advance(timedelta(minutes=10))
    assert (await jobs.claim()).work is not None


async def test_a_job_of_a_batch_does_not_wait_for_money(jobs: JobsHarness) -> None:
    jobs.peers.metering.available = 0
    request = JobRequest(new_id("job_"), "/v1/chat/completions", BODY, custom_id="line 1")
    await jobs.submissions.submit_all(jobs.peers.principal, [request], batch_id="batch_1")

    claimed = await jobs.claim()

    job = await jobs.job(claimed.run.key)
    assert job.error is not None
    assert (job.state, job.error.reason) == (JobState.FAILED, "INSUFFICIENT_QUOTA")


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (Unavailable("metering is down"), JobState.QUEUED),
        (RemoteError(Kind.INVALID, "INVALID_REQUEST", "metering does not take it"), JobState.FAILED),
    ],
)
async def test_what_passes_is_retried_and_what_does_not_fails(
    jobs: JobsHarness, failure: Exception, state: JobState
) -> None:
    jobs.peers.metering.failure = failure

    claimed = await jobs.start()

    assert claimed.work is None
    assert (await jobs.job(claimed.run.key)).state is state


async def test_a_job_waits_for_a_replica_that_does_not_know_its_route_yet(
    jobs: JobsHarness, clock: VirtualClock
) -> None:
    no_routes = RouteTable(0, {})
    outdated = RouteCache(FakeRouteStore(no_routes), jobs.peers.clock, no_routes)
    replica = replace(jobs.claims, work=replace(jobs.claims.work, routes=outdated))
    await jobs.submit()
    (dispatch,) = await jobs.dispatch()

    claimed = await replica.claim(dispatch, "wkr_1")

    assert (claimed.work, claimed.reason) == (None, "MODEL_NOT_FOUND")
    job = await jobs.job(dispatch.key)
    assert (job.state, job.state_reason, job.errors, job.crashes) == (JobState.QUEUED, "retry", 0, 0)
    clock.advance(timedelta(seconds=2))
    assert (await jobs.claim()).work is not None


@pytest.mark.parametrize("reason", ["MODEL_NOT_FOUND", "UNPRICED_MODEL", "NO_ELIGIBLE_CANDIDATE", "FEATURE_DISABLED"])
async def test_what_no_replica_has_configured_after_a_while_fails_with_its_error(
    jobs: JobsHarness, clock: VirtualClock, reason: str
) -> None:
    jobs.peers.metering.failure = RemoteError(Kind.INVALID, reason, "not here")
    claimed = await jobs.start()
    assert (await jobs.job(claimed.run.key)).state is JobState.QUEUED

    clock.advance(timedelta(seconds=30))
    await jobs.claim()

    job = await jobs.job(claimed.run.key)
    assert job.error is not None
    assert (job.state, job.error.reason, job.errors) == (JobState.FAILED, reason, 0)


async def test_while_no_provider_can_be_called_a_job_waits_and_consumes_no_attempt(
    jobs: JobsHarness, clock: VirtualClock
) -> None:
    nothing_used = (Attempt(1, 0, reported(0, 0)),)
    no_upstream = RemoteError(
        Kind.UNAVAILABLE, "UPSTREAM_UNAVAILABLE", "all circuits are open", retry_after=timedelta(seconds=4)
    )
    claimed = await jobs.start()
    for _ in range(10):
        assert await jobs.runs.complete(claimed.run, nothing_used, no_upstream) is JobState.QUEUED
        job = await jobs.job(claimed.run.key)
        assert (job.state_reason, job.errors, job.cost) == ("retry", 0, 0)
        assert await jobs.dispatch() == []  # as long as the circuits are open
        clock.advance(timedelta(minutes=2))
        claimed = await jobs.claim()

    assert await jobs.runs.complete(claimed.run, USED, ANSWER) is JobState.SUCCEEDED
