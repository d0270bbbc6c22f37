"""Which answers of chat completions are kept, and what is kept of them."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from orchestrator.usage.model import Attempt
from orchestrator.workers.model import Finished as WorkerFinished
from orchestrator.workers.model import Started
from values.usage import UNKNOWN_USAGE, CacheOutcome

from services.orchestrator.tests.harness import finished_of, reported, worker_finished
from services.orchestrator.tests.unit.response_cache.test_chat import (
    FAILED,
    ON,
    SCRIPT,
    USAGE,
    USAGE_PAYLOAD,
    a_harness,
    ask,
    outcomes,
)


async def test_an_answer_keeps_the_warnings_of_its_provider() -> None:
    finished = worker_finished(USAGE, usage_payload=USAGE_PAYLOAD)._replace(warnings=("The field top_k was dropped.",))
    harness = a_harness(ON, *SCRIPT[:-1], finished)
    answers = [await ask(harness, 1), await ask(harness, 2)]
    assert outcomes(*answers) == [CacheOutcome.MISS, CacheOutcome.HIT]
    assert [tuple(finished_of(events).warnings) for events in answers] == [finished.warnings, finished.warnings]


async def test_an_answer_of_unknown_usage_is_not_kept_with_the_usage_of_a_refused_one() -> None:
    finished = WorkerFinished((Attempt(1, 0, USAGE), Attempt(2, 0, UNKNOWN_USAGE)), usage_payload=USAGE_PAYLOAD)
    harness = a_harness(ON, *SCRIPT[:-1], finished)
    answers = [await ask(harness, 1), await ask(harness, 2)]
    assert outcomes(*answers) == [CacheOutcome.MISS, CacheOutcome.MISS]


@pytest.mark.parametrize("why", ["too large", "cut off", "of unknown usage"])
async def test_after_an_answer_that_is_not_kept_those_who_wait_make_their_own_at_once(why: str) -> None:
    gate, others = asyncio.Event(), asyncio.Event()
    finished = worker_finished(UNKNOWN_USAGE if why == "of unknown usage" else USAGE, usage_payload=USAGE_PAYLOAD)
    events = SCRIPT[1:2] if why == "cut off" else SCRIPT[1:-1]
    harness = a_harness(ON, Started(0), gate, *events, finished, max_entry_bytes=20 if why == "too large" else 100_000)
    asked = [asyncio.create_task(harness.generate(request_id=f"req_{number}")) for number in range(10)]
    while not harness.worker.calls:
        await asyncio.sleep(0)
    harness.worker.script = (Started(0), others, *events, finished)
    gate.set()
    async with asyncio.timeout(30):
        while len(harness.worker.calls) < 10:  # none of them has ended
            await asyncio.sleep(0)
        later = asyncio.create_task(harness.generate(request_id="req_later"))
        while len(harness.worker.calls) < 11:
            await asyncio.sleep(0)
    others.set()
    assert outcomes(*await asyncio.gather(*asked, later)) == [CacheOutcome.MISS] * 11


async def test_an_answer_that_is_kept_ends_the_time_in_which_nobody_waits() -> None:
    harness = a_harness(ON, *SCRIPT[:2], worker_finished(USAGE))
    await ask(harness, 1)
    harness.worker.script = SCRIPT
    answers = [await ask(harness, number) for number in (2, 3)]
    assert outcomes(*answers) == [CacheOutcome.MISS, CacheOutcome.HIT]
    assert not harness.answers.locks


async def test_a_stale_answer_outlasts_an_answer_that_is_not_kept() -> None:
    harness = a_harness(replace(ON, stale_if_error=timedelta(hours=1)))
    await ask(harness, 1)
    harness.clock.advance(timedelta(minutes=11))
    harness.worker.script = (*SCRIPT[:2], worker_finished(USAGE))
    await ask(harness, 2)
    harness.worker.script = (worker_finished(reported(0, 0), error=FAILED),)
    assert outcomes(await ask(harness, 3)) == [CacheOutcome.STALE]
