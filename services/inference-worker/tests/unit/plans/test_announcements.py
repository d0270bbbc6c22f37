"""Provider calls after the first: announced, and made only when the caller allows them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from chassis.testing import FakeClock
from inference_worker.plans.model import AttemptOutcome, AttemptStarting, Candidate, Event, Finished, Plan, Started
from inference_worker.plans.run import PlanRun
from inference_worker.providers.ports import Upstream
from values.usage import NO_USAGE, UNKNOWN_USAGE
from worker_fakes import FakeCounter, FakeObserver, FakeProvider, a_candidate, a_plan, an_upstream


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def run(provider: FakeProvider):
    def start(plan: Plan) -> PlanRun:
        upstreams = {"fake": an_upstream(provider), "embeddings-only": Upstream(FakeCounter())}
        return PlanRun(plan, upstreams=upstreams, clock=FakeClock(), observer=FakeObserver())

    return start


async def play(
    run: PlanRun, on_start: Callable[[AttemptStarting], Awaitable[object]]
) -> tuple[list[AttemptStarting], Finished]:
    """Run a plan; `on_start` answers each announcement."""
    announced: list[AttemptStarting] = []

    async def emit(event: Event) -> None:
        if isinstance(event, AttemptStarting):
            announced.append(event)
            await on_start(event)

    return announced, await run.run(emit)


async def test_the_first_attempt_is_not_announced(run):
    async def unexpected(event: object) -> None:
        raise AssertionError(event)

    announced, finished = await play(run(a_plan(a_candidate(), a_candidate())), unexpected)

    assert announced == []
    assert len(finished.attempts) == 1


async def test_each_later_attempt_waits_for_its_permission(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate("500"), a_candidate("timeout"), a_candidate(), first_byte_timeout=0.3))
    opened: list[list[str]] = []

    async def allow_later(event: AttemptStarting) -> None:
        opened.append(list(provider.opened))

        async def allow() -> None:
            await asyncio.sleep(0.005)
            opened.append(list(provider.opened))
            plan_run.proceed(event.number)

        task = asyncio.create_task(allow())
        task.add_done_callback(lambda _: None)

    announced, finished = await play(plan_run, allow_later)

    assert opened == [["500"], ["500"], ["500", "timeout"], ["500", "timeout"]]
    assert [(one.number, one.candidate) for one in announced] == [(2, 1), (3, 2)]
    # Each attempt is reported once, before the next.
    assert [[attempt.number for attempt in one.ended] for one in announced] == [[1], [2]]
    assert announced[0].ended[0].usage == NO_USAGE
    assert announced[1].ended[0].usage == UNKNOWN_USAGE
    assert [attempt.number for attempt in finished.attempts] == [1, 2, 3]


@pytest.mark.parametrize("upstream", ["unknown", "embeddings-only"])
async def test_a_first_candidate_that_cannot_be_called_is_an_attempt_and_the_next_is_announced(run, upstream: str):
    plan_run = run(a_plan(Candidate(upstream, "m", b"{}"), a_candidate()))

    async def allow(event: AttemptStarting) -> None:
        plan_run.proceed(event.number)

    announced, finished = await play(plan_run, allow)

    assert [(one.number, one.candidate) for one in announced] == [(2, 1)]
    assert [attempt.candidate for attempt in finished.attempts] == [0, 1]


async def test_a_retry_on_the_same_candidate_is_announced(run):
    plan_run = run(a_plan(a_candidate("cut-before")))

    async def allow(event: AttemptStarting) -> None:
        plan_run.proceed(event.number)

    announced, _ = await play(plan_run, allow)

    assert [(one.number, one.candidate) for one in announced] == [(2, 0)]


async def test_a_stop_instead_ends_the_plan_with_the_error_of_the_attempt_before(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate("429"), a_candidate()))

    async def stop(_: AttemptStarting) -> None:
        plan_run.stop()

    _, finished = await play(plan_run, stop)

    assert provider.opened == ["429"]
    assert [attempt.outcome for attempt in finished.attempts] == [AttemptOutcome.REJECTED]
    assert finished.error is not None
    assert finished.error.reason == "UPSTREAM_RATE_LIMITED"


async def test_a_permission_that_does_not_come_ends_the_plan_at_its_deadline(run, provider: FakeProvider):
    async def stay_silent(_: AttemptStarting) -> None:
        pass

    _, finished = await play(run(a_plan(a_candidate("500"), a_candidate(), deadline=0.5)), stay_silent)

    assert provider.opened == ["500"]
    assert finished.error is not None
    assert finished.error.reason == "UPSTREAM_TIMED_OUT"


@pytest.mark.parametrize("when", ["before", "while"])
async def test_a_caller_that_sends_nothing_more_cannot_allow_an_attempt(run, provider: FakeProvider, when: str):
    plan_run = run(a_plan(a_candidate("500"), a_candidate()))

    async def end(_: AttemptStarting) -> None:
        asyncio.get_running_loop().call_soon(plan_run.end_requests)

    if when == "before":
        plan_run.end_requests()
    _, finished = await asyncio.wait_for(play(plan_run, end), 30)

    assert provider.opened == ["500"]
    assert finished.error is not None
    assert finished.error.reason == "UPSTREAM_FAILED"


async def test_the_permission_for_another_attempt_does_not_count(run, provider: FakeProvider):
    plan_run = run(a_plan(a_candidate("500"), a_candidate(), deadline=0.5))

    async def allow(_: AttemptStarting) -> None:
        plan_run.proceed(1)
        plan_run.proceed(3)

    plan_run.proceed(2)  # before it is asked for
    await play(plan_run, allow)

    assert provider.opened == ["500"]


async def test_an_answer_that_began_is_not_announced_again(run):
    events: list[Event] = []
    plan_run = run(a_plan(a_candidate("500"), a_candidate()))

    async def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, AttemptStarting):
            plan_run.proceed(event.number)

    await plan_run.run(emit)

    assert [type(event) for event in events[:2]] == [AttemptStarting, Started]
    assert sum(isinstance(event, AttemptStarting) for event in events) == 1
