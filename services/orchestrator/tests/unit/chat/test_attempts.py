"""Provider calls after the first: on record at metering before they are made, and each settled on its own candidate."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
from chassis.errors import ArgosyError, DeadlineExceeded, Kind, RemoteError, Unavailable
from orchestrator.chat.model import ChatEvent
from orchestrator.routing.model import ALL_TENANTS, RouteCandidate, RouteEntry, Task
from orchestrator.usage.model import Attempt, AttemptUsage
from orchestrator.workers.model import AttemptStarting, Chunk, Finished, Started
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import SMOLLM2, FakeWorkerClient, Scripted, route_table
from services.orchestrator.tests.harness import Harness, finished_of, reported

THREE = route_table(
    RouteEntry(
        ALL_TENANTS,
        "smollm2",
        Task.CHAT,
        (SMOLLM2, RouteCandidate("dear", "model", 512), RouteCandidate("dear", "model", 512)),
    )
)
CHEAP, DEAR = "local/smollm2-135m-instruct", "dear/model"

TIMED_OUT = Attempt(1, 0, UNKNOWN_USAGE, ExposureCause.PROVIDER)
COUNTED = TokenUsage(UsageSource.COUNTED, 50, 2)
LIMITED = RemoteError(Kind.THROTTLED, "UPSTREAM_RATE_LIMITED", "slow down")
QUOTA = RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent")
CLOSED = RemoteError(Kind.CONFLICT, "RESERVATION_CLOSED", "its lease ran out")


def a_harness(*script: Scripted, stopped: Finished | None = None) -> Harness:
    return Harness(FakeWorkerClient(*script, stopped=stopped), routes=THREE)


def keys_and_usages(attempts: tuple[AttemptUsage, ...]) -> list[tuple[int, str, TokenUsage]]:
    return [(one.number, one.price.key, one.usage) for one in attempts]


async def test_an_attempt_is_on_record_before_the_worker_may_make_it() -> None:
    answered = Finished((TIMED_OUT, Attempt(2, 1, reported(10, 2))))
    harness = a_harness(AttemptStarting(2, 1, (TIMED_OUT,)), Started(1), Chunk([b"{}"]), answered)
    harness.metering.start_gate = asyncio.Event()
    reading = asyncio.ensure_future(harness.generate())
    while not harness.worker.calls:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert harness.worker.calls[0].proceeded == []

    harness.metering.start_gate.set()
    events = await reading

    assert harness.worker.calls[0].proceeded == [2]
    (start,) = harness.metering.starts
    assert (start.request_id, start.number, start.bound) == ("req_1", 2, 1)
    assert keys_and_usages(start.ended) == [(1, CHEAP, UNKNOWN_USAGE)]
    assert start.ended[0].exposure_cause is ExposureCause.PROVIDER
    assert keys_and_usages((await harness.usage).attempts) == [(1, CHEAP, UNKNOWN_USAGE), (2, DEAR, reported(10, 2))]
    assert finished_of(events).cost == 10 * 2_500 + 2 * 10_000


async def test_each_start_tells_metering_what_ended_since_the_last() -> None:
    second = Attempt(2, 1, COUNTED)
    answered = Finished((TIMED_OUT, second, Attempt(3, 2, reported(1, 1))))
    harness = a_harness(AttemptStarting(2, 1, (TIMED_OUT,)), AttemptStarting(3, 2, (second,)), Started(2), answered)

    await harness.generate()

    assert [[one.number for one in start.ended] for start in harness.metering.starts] == [[1], [2]]
    assert [start.bound for start in harness.metering.starts] == [1, 2]


async def test_an_answer_of_the_first_candidate_asks_metering_for_nothing_more() -> None:
    harness = a_harness(Started(0), Chunk([b"{}"]), Finished((Attempt(1, 0, reported(10, 2)),)))

    await harness.generate()

    assert harness.metering.starts == []
    assert harness.worker.calls[0].proceeded == []


@pytest.mark.parametrize("end", [Unavailable("it is down"), DeadlineExceeded("silent"), RuntimeError("a bug")])
async def test_a_worker_that_dies_leaves_the_running_attempt_unknown_on_its_own_candidate(end: Exception) -> None:
    harness = a_harness(AttemptStarting(2, 1, (Attempt(1, 0, COUNTED),)), end)

    with pytest.raises(type(end)):
        await harness.generate()

    attempts = (await harness.usage).attempts
    assert keys_and_usages(attempts) == [(1, CHEAP, COUNTED), (2, DEAR, UNKNOWN_USAGE)]
    assert [one.exposure_cause for one in attempts] == [None, ExposureCause.FLEET]


async def test_a_worker_that_dies_at_its_first_attempt_leaves_that_one() -> None:
    harness = a_harness(Unavailable("it is down"))

    with pytest.raises(Unavailable):
        await harness.generate()

    (attempt,) = (await harness.usage).attempts
    assert (attempt.number, attempt.price.key, attempt.usage) == (1, CHEAP, UNKNOWN_USAGE)
    assert attempt.exposure_cause is ExposureCause.FLEET


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (QUOTA, "INSUFFICIENT_QUOTA"),
        (CLOSED, "UPSTREAM_RATE_LIMITED"),
        (Unavailable("metering does not answer"), "UPSTREAM_RATE_LIMITED"),
        (DeadlineExceeded("metering is slow"), "UPSTREAM_RATE_LIMITED"),
    ],
)
async def test_an_attempt_that_is_not_on_record_is_not_made(refusal: ArgosyError, reason: str) -> None:
    rejected = Attempt(1, 0, NO_USAGE)
    harness = a_harness(AttemptStarting(2, 1, (rejected,)), stopped=Finished((rejected,), LIMITED))
    harness.metering.start_failure = refusal

    with pytest.raises(ArgosyError) as failed:
        await harness.generate()

    assert failed.value.reason == reason
    assert harness.worker.calls[0].proceeded == []
    attempts = keys_and_usages((await harness.usage).attempts)
    assert attempts[0] == (1, CHEAP, NO_USAGE)
    # Metering may have it on record when it did not answer: it was certainly not made, and is released.
    assert attempts[1:] == ([] if refusal in (QUOTA, CLOSED) else [(2, DEAR, NO_USAGE)])


async def test_a_client_that_leaves_before_the_permission_stops_the_attempt() -> None:
    harness = a_harness(AttemptStarting(2, 1, (TIMED_OUT,)), stopped=Finished((TIMED_OUT,), LIMITED))
    harness.metering.start_gate = asyncio.Event()
    reading = asyncio.ensure_future(harness.generate())
    while not harness.worker.calls:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    harness.metering.start_gate.set()

    assert keys_and_usages((await harness.usage).attempts) == [(1, CHEAP, UNKNOWN_USAGE), (2, DEAR, NO_USAGE)]
    assert harness.worker.calls[0].proceeded == []


async def test_an_announced_attempt_of_no_candidate_is_not_made() -> None:
    harness = a_harness(AttemptStarting(2, 9, (TIMED_OUT,)))

    with pytest.raises(ArgosyError) as failed:
        await harness.generate()

    assert failed.value.kind is Kind.INTERNAL
    assert keys_and_usages((await harness.usage).attempts) == [(1, CHEAP, UNKNOWN_USAGE)]


async def test_usage_above_an_attempts_bound_costs_the_bound() -> None:
    ended = Attempt(1, 0, reported(10**6, 0))
    answered = Finished((ended, Attempt(2, 1, reported(10**6, 2))))
    harness = a_harness(AttemptStarting(2, 1, (ended,)), Started(1), answered)

    events = await harness.generate()

    (cheap, dear, _), _ = harness.metering.reserved["req_1"]
    assert finished_of(events).cost == cheap.input_tokens * 50 + dear.input_tokens * 2_500 + 2 * 10_000
    # Metering learns what was reported, and flags it.
    assert [one.usage for one in (await harness.usage).attempts] == [reported(10**6, 0), reported(10**6, 2)]


async def test_what_is_held_for_all_attempts_pays_for_all() -> None:
    ended = Attempt(1, 0, reported(10, 1024))
    answered = Finished((ended, Attempt(2, 1, reported(10, 512))))
    harness = a_harness(AttemptStarting(2, 1, (ended,)), Started(1), answered)

    events = await harness.generate()

    assert finished_of(events).cost == (10 * 50 + 1024 * 200) + (10 * 2_500 + 512 * 10_000)


async def test_a_request_is_running_until_its_usage_is_written() -> None:
    harness = a_harness(Started(0), Chunk([b"{}"]), Finished((Attempt(1, 0, reported(1, 1)),)))
    harness.outbox.gate.clear()
    key = (harness.principal.tenant_id, "req_1")
    assert not harness.tasks.is_running(key)

    events: AsyncGenerator[ChatEvent, None] = harness.completions.generate(harness.request())
    await anext(events)
    assert harness.tasks.is_running(key)
    await events.aclose()
    for _ in range(20):
        await asyncio.sleep(0)
    assert harness.tasks.is_running(key)

    harness.outbox.gate.set()
    await harness.tasks.wait_idle()
    assert not harness.tasks.is_running(key)


async def test_a_request_whose_usage_is_retried_is_running() -> None:
    harness = Harness(
        FakeWorkerClient(Started(0), Finished((Attempt(1, 0, reported(1, 1)),))), usage_timeout=timedelta(seconds=0)
    )
    harness.outbox.failure = Unavailable("no database")
    retried = asyncio.Event()

    async def pause() -> None:
        assert harness.tasks.is_running((harness.principal.tenant_id, "req_1"))
        retried.set()
        harness.outbox.failure = None

    harness.on_pause = pause
    await harness.generate()
    await harness.tasks.wait_idle()

    assert retried.is_set()
    assert not harness.tasks.is_running((harness.principal.tenant_id, "req_1"))
