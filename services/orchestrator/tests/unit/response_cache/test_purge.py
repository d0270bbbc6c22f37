"""Purges: what is given after them, and what they cost a store that others use too."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chassis.errors import ArgosyError, InvalidRequest, RemoteError, Unavailable
from chassis.testing import FakeClock
from orchestrator.response_cache.model import CacheKey
from orchestrator.response_cache.ports import Looked, Purged
from orchestrator.response_cache.purge import CachedPromptsRemain, PurgeCache, Removals
from orchestrator.workers.model import Started
from values.usage import CacheOutcome

from services.orchestrator.tests.fake_answers import FakeAnswerStore
from services.orchestrator.tests.harness import Harness, reported, started_of, worker_finished
from services.orchestrator.tests.unit.response_cache.test_chat import (
    FAILED,
    ON,
    SCRIPT,
    a_harness,
    ask,
    outcomes,
)

SECOND = timedelta(seconds=1)
MISS, HIT = CacheOutcome.MISS, CacheOutcome.HIT


async def purge(harness: Harness) -> None:
    harness.clock.advance(SECOND)
    await harness.answers.purge(Purged(harness.principal.tenant_id, None))
    harness.clock.advance(SECOND)


async def until_calls(harness: Harness, number: int) -> None:
    while len(harness.worker.calls) < number:
        await asyncio.sleep(0)


async def test_who_comes_after_a_purge_gets_no_answer_whose_making_began_before_it() -> None:
    gate = asyncio.Event()
    harness = a_harness(ON, Started(0), gate, *SCRIPT[1:])
    first = asyncio.create_task(harness.generate(request_id="req_1"))
    await until_calls(harness, 1)
    await purge(harness)
    later = [asyncio.create_task(harness.generate(request_id=f"req_{number}")) for number in range(2, 12)]
    await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(first, *later)
    await harness.tasks.wait_idle()

    assert outcomes(answers[0]) == [MISS]
    assert sorted(outcomes(*answers[1:]), key=str) == [HIT] * 9 + [MISS]
    assert len(harness.worker.plans) == 2


async def test_those_who_wait_look_once_together_whether_their_answer_is_purged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()
    harness = a_harness(ON, Started(0), gate, *SCRIPT[1:])
    checks = 0
    purged_ms = harness.answers.purged_ms

    async def counted(key: CacheKey) -> int:
        nonlocal checks
        checks += 1
        return await purged_ms(key)

    asked = [asyncio.create_task(harness.generate(request_id=f"req_{number}")) for number in range(20)]
    await until_calls(harness, 1)
    monkeypatch.setattr(harness.answers, "purged_ms", counted)
    gate.set()
    assert sorted(outcomes(*await asyncio.gather(*asked)), key=str) == [HIT] * 19 + [MISS]
    assert checks == 1


async def test_an_old_answer_that_is_purged_during_the_provider_calls_is_not_given() -> None:
    gate = asyncio.Event()
    harness = a_harness(replace(ON, stale_if_error=timedelta(hours=1)))
    await ask(harness, 1)
    harness.clock.advance(timedelta(minutes=11))
    harness.worker.script = (gate, worker_finished(reported(0, 0), error=FAILED))
    asked = asyncio.create_task(harness.generate(request_id="req_2"))
    await until_calls(harness, 2)
    await purge(harness)
    gate.set()
    with pytest.raises(ArgosyError):
        await asked


async def test_an_answer_of_a_clock_ahead_is_of_age_zero_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = a_harness()
    await ask(harness, 1)
    harness.clock.advance(-SECOND)
    find, finds, gate = harness.answers.find, 0, asyncio.Event()

    async def slow(key: CacheKey, token: str, lease: timedelta | None) -> Looked:
        nonlocal finds
        finds += 1
        await gate.wait()
        return await find(key, token, lease)

    monkeypatch.setattr(harness.answers, "find", slow)
    asked = [asyncio.create_task(harness.generate(request_id=f"req_{number}")) for number in (2, 3)]
    while not finds:
        await asyncio.sleep(0)
    gate.set()
    assert [started_of(events).cache_age_seconds for events in await asyncio.gather(*asked)] == [0, 0]
    assert finds == 1, "one of them has waited for the other"


class Background:
    """Runs removals as tasks."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        self.tasks.append(asyncio.create_task(work))


async def test_purges_during_a_removal_are_removed_together_by_the_next_one() -> None:
    store, background = FakeAnswerStore(FakeClock()), Background()
    removals = Removals(store, background.start, pause=timedelta(0))
    removals.add(Purged("ten_0", None))
    await asyncio.gather(*background.tasks)
    for number in range(50):
        removals.add(Purged(f"ten_{number}", None))
        removals.add(Purged(f"ten_{number}", None))
    while len(background.tasks) < 2:
        await asyncio.sleep(0)
    await asyncio.gather(*background.tasks)
    assert [len(one) for one in store.removals] == [1, 50]


async def test_after_a_removal_there_is_a_pause() -> None:
    store, background = FakeAnswerStore(FakeClock()), Background()
    removals = Removals(store, background.start, pause=timedelta(hours=1))
    for number in range(20):
        removals.add(Purged(f"ten_{number}", None))
        await asyncio.gather(*background.tasks)
    assert len(store.removals) == 1


async def test_a_removal_that_fails_is_tried_again_with_the_next_one() -> None:
    store, background = FakeAnswerStore(FakeClock(), down=True), Background()
    removals = Removals(store, background.start, pause=timedelta(0))
    removals.add(Purged("ten_1", None))
    await asyncio.gather(*background.tasks, return_exceptions=True)
    store.down = False
    removals.add(Purged("ten_2", None))
    while not store.removals:
        await asyncio.sleep(0)
    await asyncio.gather(*background.tasks, return_exceptions=True)
    assert store.removals == [{Purged("ten_1", None), Purged("ten_2", None)}]


class BrokenListener:
    async def purge(self, tenant_id: str | None, model: str | None) -> None:
        raise RemoteError(Unavailable.kind, "SERVICE_UNAVAILABLE", "retrieval does not answer")


@pytest.mark.degraded(down="retrieval", area="sync", holds="a purge forgets all answers, and says that prompts remain")
async def test_a_purge_without_retrieval_forgets_the_answers_and_says_that_prompts_remain() -> None:
    harness, background = a_harness(), Background()
    removals = Removals(harness.answers, background.start)
    await ask(harness, 1)
    harness.clock.advance(SECOND)
    purging = PurgeCache(harness.answers, removals, (BrokenListener(),))

    with pytest.raises(CachedPromptsRemain, match="none is given any more"):
        await purging.purge(Purged(harness.principal.tenant_id, None))

    await asyncio.gather(*background.tasks)
    assert not harness.answers.answers
    assert outcomes(await ask(harness, 2)) == [MISS]


async def test_all_answers_of_all_tenants_are_not_purged_at_once() -> None:
    store = FakeAnswerStore(FakeClock())
    with pytest.raises(InvalidRequest):
        await PurgeCache(store, Removals(store, Background().start)).purge(Purged(None, None))
