"""What the usage event of an easy request says of its calls on cheap candidates."""

import asyncio
from dataclasses import replace

import pytest
from chassis.errors import Kind, RemoteError
from orchestrator.limits import DisconnectPolicy
from orchestrator.routing.model import ALL_TENANTS, RouteCandidate, RouteEntry, Task
from orchestrator.routing.policy import RightSizing, RoutePolicy
from orchestrator.usage.model import Attempt, RightSizingUse
from orchestrator.usage.protos import request_usage_to_proto
from orchestrator.workers.model import AttemptStarting, Chunk, Finished, Started
from values.protos import timestamp_to_proto
from values.usage import NO_USAGE, UNKNOWN_USAGE, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import SMOLLM2, FakeWorkerClient, Scripted, route_table
from services.orchestrator.tests.harness import LIMITS, Harness, finished_of, reported, worker_finished

CHEAP = SMOLLM2.price_key
ROUTES = route_table(
    RouteEntry(
        ALL_TENANTS,
        "smollm2",
        Task.CHAT,
        (RouteCandidate("dear", "model", 512), SMOLLM2),
        RoutePolicy(right_sizing=RightSizing(frozenset({CHEAP}), max_input_bytes=100)),
    )
)
"""The plan of an easy request is the cheap candidate, then the dear one."""
LONG = {"model": "smollm2", "messages": [{"role": "user", "content": "x" * 101}]}
REFUSED = RemoteError(Kind.UPSTREAM, "UPSTREAM_ANSWER_REFUSED", "it is empty")


def a_harness(*script: Scripted, stopped: Finished | None = None) -> Harness:
    return Harness(FakeWorkerClient(*script, stopped=stopped), routes=ROUTES)


async def sizing_of(harness: Harness) -> tuple[tuple[int, ...], int] | None:
    """Return the calls of cheap candidates, and the one that answered."""
    use = (await harness.usage).right_sizing
    if use is None:
        return None
    assert (use.model, use.alternative.key, use.alternative.version) == ("smollm2", "dear/model", "prc_dear/model")
    return use.attempts, use.answer


@pytest.mark.parametrize("stream", [False, True])
async def test_an_easy_request_says_which_call_answered_and_what_would_have_been_tried_first(stream: bool) -> None:
    harness = a_harness(Started(0), Chunk([b"{}"]), worker_finished(reported(10, 2)))
    await harness.generate(stream=stream)

    assert [one.upstream for one in harness.worker.plans[0].candidates] == ["local", "dear"]
    assert await sizing_of(harness) == ((1,), 1)
    message = request_usage_to_proto(await harness.usage, timestamp_to_proto(harness.clock.now()))
    sizing = message.right_sizing
    assert (sizing.model, sizing.price_key, sizing.price_version) == ("smollm2", "dear/model", "prc_dear/model")
    assert (list(sizing.attempts), sizing.answer) == ([1], 1)


async def test_a_request_that_is_not_easy_says_nothing() -> None:
    harness = a_harness(Started(0), Chunk([b"{}"]), worker_finished(reported(10, 2)))
    await harness.generate(LONG)

    assert [one.upstream for one in harness.worker.plans[0].candidates] == ["dear", "local"]
    assert await sizing_of(harness) is None


async def test_an_answer_of_no_use_is_no_answer() -> None:
    refused = Attempt(1, 0, reported(10, 2))
    answered = Finished((refused, Attempt(2, 1, reported(10, 5))))
    harness = a_harness(AttemptStarting(2, 1, (refused,)), Started(1), Chunk([b"{}"]), answered)
    await harness.generate(stream=False)

    assert await sizing_of(harness) == ((1,), 0)


async def test_a_second_call_of_a_cheap_candidate_answers_after_a_first_that_was_paid_in_vain() -> None:
    broken = Attempt(1, 0, reported(10, 1))
    answered = Finished((broken, Attempt(2, 0, reported(10, 5)), Attempt(3, 1, NO_USAGE)))
    harness = a_harness(AttemptStarting(2, 0, (broken,)), Started(0), Chunk([b"{}"]), answered)
    await harness.generate()

    assert await sizing_of(harness) == ((1, 2), 2)


@pytest.mark.parametrize(("stream", "answer"), [(True, 1), (False, 0)])
async def test_of_an_answer_that_broke_only_a_stream_has_reached_the_client(stream: bool, answer: int) -> None:
    harness = a_harness(Started(0), Chunk([b"{}"]), worker_finished(reported(10, 2), error=REFUSED))
    events = await harness.generate(stream=stream)

    assert finished_of(events).error is REFUSED
    assert await sizing_of(harness) == ((1,), answer)


async def test_a_refused_answer_that_no_candidate_replaces_is_no_answer() -> None:
    harness = a_harness(worker_finished(reported(10, 2), error=REFUSED))
    with pytest.raises(RemoteError):
        await harness.generate(stream=False)

    assert await sizing_of(harness) == ((1,), 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_client_leaves_would_have_been_left_at_the_other_candidate_as_well(stream: bool) -> None:
    stopped = worker_finished(TokenUsage(UsageSource.COUNTED, 50, 2), error=REFUSED)
    harness = Harness(
        FakeWorkerClient(asyncio.Event(), stopped=stopped),
        routes=ROUTES,
        limits=replace(LIMITS, non_streamed_disconnect=DisconnectPolicy.ABORT),
    )
    reading = asyncio.ensure_future(harness.generate(stream=stream))
    while not harness.worker.calls:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert await sizing_of(harness) == ((1,), 1)


@pytest.mark.parametrize(
    "end", [RemoteError(Kind.UNAVAILABLE, "UNAVAILABLE", "the worker died"), RuntimeError("a bug")]
)
async def test_a_call_whose_end_is_unknown_is_no_answer(end: Exception) -> None:
    harness = a_harness(Started(0), end)
    with pytest.raises(type(end)):
        await harness.generate()

    assert (await harness.usage).attempts[0].usage == UNKNOWN_USAGE
    assert await sizing_of(harness) == ((1,), 0)


async def test_an_event_without_right_sizing_has_no_such_field() -> None:
    harness = Harness(FakeWorkerClient(Started(0), Chunk([b"{}"]), worker_finished(reported(10, 2))))
    await harness.generate()
    usage = await harness.usage

    assert usage.right_sizing is None
    now = timestamp_to_proto(harness.clock.now())
    assert not request_usage_to_proto(usage, now).HasField("right_sizing")
    use = RightSizingUse("m", usage.attempts[0].price, (1,), 1)
    assert request_usage_to_proto(usage._replace(right_sizing=use), now).HasField("right_sizing")
