"""Dispatched jobs that no worker has claimed."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from inference_worker.jobs.model import Lane, Offer, RunRef
from inference_worker.jobs.offers import MAX_INTERVAL_SECONDS, MIN_INTERVAL_SECONDS, Offers
from job_fakes import FakedWorker

OFFER = Offer(RunRef("ten_a", "job_1", 1), Lane.STANDARD)


def asking(faked: FakedWorker, used: int, taken: list[Sequence[Offer]]) -> Offers:
    return Offers(faked.worker, faked.orchestrator, faked.observer, lambda: used, taken.append)


async def test_a_worker_says_how_many_slots_are_free_and_takes_what_it_is_offered():
    faked = FakedWorker()
    taken: list[Sequence[Offer]] = []
    faked.orchestrator.offers = [OFFER]

    assert await asking(faked, 1, taken).ask()

    slots = faked.worker.slots
    assert faked.orchestrator.asked == [(slots, slots - 1)]
    assert taken == [[OFFER]]


async def test_without_an_answer_old_offers_are_dropped():
    faked = FakedWorker()
    taken: list[Sequence[Offer]] = []
    faked.orchestrator.failures["find_unclaimed"] = [Unavailable("away")]

    assert not await asking(faked, 0, taken).ask()

    assert taken == [()]
    assert faked.observer.retries == [("find_unclaimed", "SERVICE_UNAVAILABLE")]


async def test_a_worker_that_drains_asks_for_nothing():
    faked = FakedWorker()
    taken: list[Sequence[Offer]] = []
    faked.worker.begin_drain(timedelta(seconds=30), timedelta(seconds=30))

    assert await asking(faked, 0, taken).ask()

    assert (faked.orchestrator.asked, taken) == ([], [])


async def test_a_worker_asks_often_only_while_it_is_offered_jobs_for_free_slots():
    faked = FakedWorker()
    used = faked.worker.slots
    offers = Offers(faked.worker, faked.orchestrator, faked.observer, lambda: used, lambda _: None)
    intervals = []

    async def ask(*found: Offer) -> None:
        faked.orchestrator.offers = list(found)
        await offers.ask()
        intervals.append(offers.interval_seconds)

    await ask(OFFER)
    used = 0
    await ask(OFFER)
    for _ in range(6):
        await ask()

    assert intervals[:2] == [MAX_INTERVAL_SECONDS, MIN_INTERVAL_SECONDS]
    assert intervals[2:] == [min(MIN_INTERVAL_SECONDS * 2**n, MAX_INTERVAL_SECONDS) for n in range(1, 7)]


async def test_a_worker_that_is_woken_asks_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("inference_worker.jobs.offers.MAX_INTERVAL_SECONDS", 3600.0)
    faked, stop = FakedWorker(), asyncio.Event()
    offers = asking(faked, 0, [])
    running = asyncio.create_task(offers.run(stop))
    await faked.orchestrator.until(lambda: len(faked.orchestrator.calls) == 1)
    offers.wake()
    await faked.orchestrator.until(lambda: len(faked.orchestrator.calls) == 2)
    stop.set()
    async with asyncio.timeout(30):
        await running
