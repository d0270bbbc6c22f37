"""Dispatched jobs that no worker has claimed."""

from collections.abc import Sequence
from datetime import timedelta

from chassis.errors import Unavailable
from inference_worker.jobs.model import Lane, Offer, RunRef
from inference_worker.jobs.offers import INTERVAL_SECONDS, SHORT_INTERVAL_SECONDS, Offers
from job_fakes import FakedWorker

OFFER = Offer(RunRef("ten_a", "job_1", 1), Lane.STANDARD)


def asking(faked: FakedWorker, used: int, taken: list[Sequence[Offer]]) -> Offers:
    return Offers(faked.worker, faked.orchestrator, faked.observer, lambda: used, taken.append)


async def test_a_worker_says_how_many_slots_are_free_and_takes_what_it_is_offered():
    faked = FakedWorker()
    taken: list[Sequence[Offer]] = []
    faked.orchestrator.offers = [OFFER]

    assert await asking(faked, 1, taken).ask() == SHORT_INTERVAL_SECONDS

    slots = faked.worker.slots
    assert faked.orchestrator.asked == [(slots, slots - 1)]
    assert taken == [[OFFER]]


async def test_without_an_answer_old_offers_are_dropped():
    faked = FakedWorker()
    taken: list[Sequence[Offer]] = []
    faked.orchestrator.failures["find_unclaimed"] = [Unavailable("away")]

    assert await asking(faked, 0, taken).ask() is None

    assert taken == [()]
    assert faked.observer.retries == [("find_unclaimed", "SERVICE_UNAVAILABLE")]


async def test_a_worker_that_drains_asks_for_nothing():
    faked = FakedWorker()
    taken: list[Sequence[Offer]] = []
    faked.worker.begin_drain(timedelta(seconds=30), timedelta(seconds=30))

    assert await asking(faked, 0, taken).ask() == INTERVAL_SECONDS

    assert (faked.orchestrator.asked, taken) == ([], [])


async def test_a_worker_with_few_free_slots_or_without_offers_asks_seldom():
    faked = FakedWorker()
    taken: list[Sequence[Offer]] = []
    nothing = await asking(faked, 0, taken).ask()
    faked.orchestrator.offers = [OFFER]

    busy = await asking(faked, faked.worker.slots, taken).ask()

    assert (nothing, busy) == (INTERVAL_SECONDS, INTERVAL_SECONDS)
