"""Jobs that are named to workers while the consumers of their pool settle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from orchestrator.jobs.model import Lane, RunRef
from orchestrator.jobs.offers.connections import WorkerConnections
from orchestrator.jobs.offers.push import LIVE_SECONDS, SETTLING_SECONDS, OfferPush
from orchestrator.jobs.rounds import Dispatched, Offer

from services.orchestrator.tests.jobs_harness import JobsHarness


class Signals:
    """Records what is told."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.offers: list[tuple[str, tuple[str, ...]]] = []
        """By worker: the ids of the jobs."""

    def ended(self, worker_id: str, pool: str) -> None:
        self.published.append(worker_id)

    def offer(self, worker_id: str, pool: str, offers: Sequence[Offer]) -> None:
        assert pool == "default"
        self.offers.append((worker_id, tuple(one.dispatch.job_id for one in offers)))


class Pushing:
    """A push of which the time passes by hand."""

    def __init__(self, *workers: str) -> None:
        self.now = 100.0
        self.signals = Signals()
        self.push = OfferPush(self.signals, lambda: self.now)
        for worker in workers:
            self.push.seen(worker, "default", 4)

    def dispatch(self, *jobs: str) -> list[tuple[str, tuple[str, ...]]]:
        """Dispatch jobs; return the offers that were made of them."""
        self.signals.offers.clear()
        runs = [Dispatched(RunRef("ten_1", job, 1), Lane.STANDARD, timedelta(0)) for job in jobs]
        self.push.dispatched("default", runs)
        return list(self.signals.offers)


def test_in_quiet_times_nothing_is_named() -> None:
    assert Pushing("wrk_1", "wrk_2").dispatch("job_1") == []


def test_while_a_pool_settles_each_job_is_named_to_one_worker_in_turn() -> None:
    pushing = Pushing("wrk_1", "wrk_2", "wrk_3")
    pushing.push.disconnected("wrk_2", "default")
    asked = list(pushing.signals.offers)

    first, second = pushing.dispatch("job_1", "job_2", "job_3"), pushing.dispatch("job_4")
    pushing.now += SETTLING_SECONDS
    settled = pushing.dispatch("job_5")

    assert asked == [("wrk_1", ()), ("wrk_3", ())]
    assert pushing.signals.published == ["wrk_2"]
    assert first == [("wrk_1", ("job_1", "job_3")), ("wrk_3", ("job_2",))]
    assert second == [("wrk_3", ("job_4",))]
    assert settled == []


def test_what_another_replica_has_found_is_not_told_again() -> None:
    pushing = Pushing("wrk_1")
    pushing.push.ended("wrk_9", "default")

    assert pushing.signals.published == []
    assert pushing.dispatch("job_1") == [("wrk_1", ("job_1",))]


def test_only_live_workers_with_slots_are_named_jobs() -> None:
    pushing = Pushing("silent", "drains", "back")
    for worker in ("drains", "back", "other"):
        pushing.push.ended(worker, "default" if worker != "other" else "pool-2")
    pushing.now += LIVE_SECONDS
    pushing.push.ended("drains", "default")
    pushing.push.seen("drains", "default", 0)
    pushing.push.seen("back", "default", 4)

    assert pushing.dispatch("job_1", "job_2") == [("back", ("job_1", "job_2"))]


def test_without_live_workers_nothing_is_named() -> None:
    pushing = Pushing("wrk_1")
    pushing.push.disconnected("wrk_1", "default")

    assert pushing.dispatch("job_1") == []


async def test_a_connection_that_is_cut_is_a_worker_that_has_gone() -> None:
    pushing = Pushing("wrk_1")
    connections = WorkerConnections(pushing.push)
    held = asyncio.create_task(connections.hold("wrk_1", "default"))
    await asyncio.sleep(0)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held

    assert pushing.signals.published == ["wrk_1"]


async def test_connections_that_a_replica_ends_tell_of_no_worker() -> None:
    pushing = Pushing("wrk_1")
    connections = WorkerConnections(pushing.push)
    held = asyncio.create_task(connections.hold("wrk_1", "default"))
    await asyncio.sleep(0)
    await connections.stop()
    await held
    await connections.hold("wrk_2", "default", 0.01)

    assert pushing.signals.published == []


async def test_a_round_names_what_it_has_dispatched_to_those_whose_heartbeats_came(jobs: JobsHarness) -> None:
    await jobs.submit()
    jobs.push.ended("wrk_0", "default")

    (run,) = await jobs.dispatch(worker_id="wrk_1")

    assert jobs.push_signals.offers == [("wrk_1", "default", [Offer(run, Lane.STANDARD)])]
