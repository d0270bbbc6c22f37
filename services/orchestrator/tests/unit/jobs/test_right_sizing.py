"""What the event of a job's run says of right-sizing: as that of a request that a client waits for."""

import pytest
from chassis.errors import ArgosyError, Kind, RemoteError
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.runs import Run
from orchestrator.jobs.settle import Draw, completed, died, returned
from orchestrator.routing.model import ALL_TENANTS, RouteCandidate, RouteEntry, Task
from orchestrator.routing.policy import RightSizing, RoutePolicy
from orchestrator.usage.model import Attempt, RequestUsage

from services.orchestrator.tests.fakes import SMOLLM2, route_table
from services.orchestrator.tests.harness import Harness, reported
from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.jobs_harness import ANSWER, USED, JobsHarness

ROUTES = route_table(
    RouteEntry(
        ALL_TENANTS,
        "smollm2",
        Task.CHAT,
        (RouteCandidate("dear", "model", 512), SMOLLM2),
        RoutePolicy(right_sizing=RightSizing(frozenset({SMOLLM2.price_key}))),
    )
)
DRAW = Draw("evt_1", 0.5)
FAILED = RemoteError(Kind.UPSTREAM, "UPSTREAM_ANSWER_REFUSED", "it is empty")


@pytest.fixture
def jobs(store: InMemoryJobStore) -> JobsHarness:
    return JobsHarness(store, store, peers=Harness(routes=ROUTES))


async def test_a_run_on_a_cheap_candidate_is_compared_with_the_other_one(
    jobs: JobsHarness, store: InMemoryJobStore
) -> None:
    claimed = await jobs.start()
    await jobs.runs.complete(claimed.run, USED, ANSWER)

    (usage,) = [event for event in store.outbox if isinstance(event, RequestUsage)]
    assert usage.right_sizing is not None
    assert (usage.right_sizing.model, usage.right_sizing.alternative.key) == ("smollm2", "dear/model")
    assert (usage.right_sizing.attempts, usage.right_sizing.answer) == ((1,), 1)


@pytest.mark.parametrize(("answer", "number"), [(ANSWER, 1), (FAILED, 0)])
async def test_a_run_without_an_answer_saves_nothing(
    jobs: JobsHarness, store: InMemoryJobStore, answer: bytes | ArgosyError, number: int
) -> None:
    run = await a_run(jobs, store)
    policy = JobPolicy()

    ends = [completed(run, USED, answer, policy, DRAW)]
    if number == 0:
        ends += [returned(run, USED, DRAW), died(run, policy, DRAW)]
    assert [end.usage.right_sizing.answer for end in ends if end.usage and end.usage.right_sizing] == [number] * len(
        ends
    )


async def test_a_run_that_fell_back_names_the_call_of_the_cheap_candidate_alone(
    jobs: JobsHarness, store: InMemoryJobStore
) -> None:
    run = await a_run(jobs, store)
    attempts = (Attempt(1, 0, reported(100, 0)), Attempt(2, 1, reported(100, 50)))
    usage = completed(run, attempts, ANSWER, JobPolicy(), DRAW).usage

    assert usage is not None
    assert usage.right_sizing is not None
    assert (usage.right_sizing.attempts, usage.right_sizing.answer) == ((1,), 0)


async def a_run(jobs: JobsHarness, store: InMemoryJobStore) -> Run:
    """Return a running job."""
    claimed = await jobs.start()
    (run,) = await store.running([claimed.run])
    assert run is not None
    return run
