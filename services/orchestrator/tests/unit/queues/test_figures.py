"""Figures of queues for those who ask often: the latest, and after a minute without a read an error, never 0."""

from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from chassis.testing import START, FakeClock
from orchestrator.jobs.model import Lane
from orchestrator.queues.figures import MAX_AGE, LatestFigures, QueueFiguresStale
from orchestrator.queues.model import QueueFigures
from orchestrator.queues.run_times import HALF_LIFE, RunTimes
from orchestrator.queues.schedule import FigureRefresher
from prometheus_client import REGISTRY

from services.orchestrator.tests.queue_fakes import BATCH, INTERACTIVE, FakeQueueStore

INTERVAL = timedelta(seconds=3)
QUEUE = {"pool": "default", "lane": "batch"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> FakeQueueStore:
    return FakeQueueStore(BATCH, INTERACTIVE)


@pytest.fixture
def latest(store: FakeQueueStore, clock: FakeClock) -> LatestFigures:
    return LatestFigures(store, clock)


def series(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"orchestrator_{name}", labels)


def test_before_the_first_read_there_is_no_figure(latest: LatestFigures) -> None:
    with pytest.raises(QueueFiguresStale, match="not been read"):
        latest.current()


async def test_figures_are_kept_for_a_minute_and_not_longer(
    store: FakeQueueStore, latest: LatestFigures, clock: FakeClock
) -> None:
    await latest.refresh()
    store.broken = True
    clock.advance(MAX_AGE)
    with pytest.raises(Unavailable):
        await latest.refresh()
    assert latest.current() == (BATCH, INTERACTIVE)

    clock.advance(timedelta(milliseconds=1))

    with pytest.raises(QueueFiguresStale, match="60 s ago"):
        latest.current()
    store.broken = False
    await latest.refresh()
    assert latest.current() == (BATCH, INTERACTIVE)


async def test_the_age_of_figures_counts_from_the_start_or_the_last_read(
    store: FakeQueueStore, latest: LatestFigures, clock: FakeClock
) -> None:
    store.broken = True
    clock.advance(timedelta(seconds=5))
    with pytest.raises(Unavailable):
        await latest.refresh()
    assert latest.age_seconds == 5

    store.broken = False
    await latest.refresh()
    assert latest.age_seconds == 0
    clock.advance(timedelta(seconds=7))
    assert latest.age_seconds == 7


def test_the_work_of_a_queue_follows_from_recent_jobs_and_is_unknown_without() -> None:
    assert BATCH.work == timedelta(seconds=75)
    assert INTERACTIVE.work == timedelta(0)
    assert QueueFigures(pool="default", lane=Lane.BATCH, queued=1).work is None


def test_the_mean_run_time_follows_recent_jobs_and_survives_a_pause() -> None:
    times, now = RunTimes(), START
    assert times.mean("default", "batch") is None
    times.add("default", "batch", 10, timedelta(seconds=100), now)
    assert times.mean("default", "batch") == timedelta(seconds=10)

    for _ in range(20):
        now += HALF_LIFE
        times.add("default", "batch", 10, timedelta(seconds=20), now)

    recent = times.mean("default", "batch")
    assert recent is not None
    assert abs(recent - timedelta(seconds=2)) < timedelta(milliseconds=1)
    times.add("default", "batch", 0, timedelta(0), now + timedelta(hours=1))
    assert times.mean("default", "batch") == recent
    assert times.mean("default", "interactive") is None


async def test_metrics_show_all_figures(latest: LatestFigures) -> None:
    await FigureRefresher(latest, INTERVAL).run_once()

    states = {state: series("queue_jobs", state=state, **QUEUE) for state in ("queued", "dispatched", "running")}
    assert states == {"queued": 30, "dispatched": 4, "running": 2}
    assert series("queue_oldest_wait_seconds", **QUEUE) == 90
    assert series("queue_tokens", **QUEUE) == 3_000
    assert series("queue_work_seconds", **QUEUE) == 75
    assert series("queue_tenants", **QUEUE) == 3
    assert series("pool_slots", pool="default") == 16


async def test_a_queue_that_is_no_more_has_no_series(store: FakeQueueStore, latest: LatestFigures) -> None:
    refresher = FigureRefresher(latest, INTERVAL)
    await refresher.run_once()
    store.figures = [INTERACTIVE]
    await refresher.run_once()

    assert series("queue_jobs", state="queued", **QUEUE) is None
    assert series("queue_jobs", state="running", pool="default", lane="interactive") == 1


async def test_while_queues_cannot_be_read_for_a_minute_no_metric_says_zero(
    store: FakeQueueStore, latest: LatestFigures, clock: FakeClock
) -> None:
    refresher = FigureRefresher(latest, INTERVAL)
    await refresher.run_once()
    store.broken = True
    seen = []
    while clock.monotonic() < 90:
        clock.advance(INTERVAL)
        with pytest.raises(Unavailable):
            await refresher.run_once()
        seen.append((clock.monotonic(), series("queue_jobs", state="queued", **QUEUE)))

    assert {value for _, value in seen} == {30, None}
    assert [value for at, value in seen if at >= 60] == [None] * sum(at >= 60 for at, _ in seen)
    assert [value for at, value in seen if at <= 51] == [30] * 17


async def test_work_that_is_unknown_is_absent(store: FakeQueueStore, latest: LatestFigures) -> None:
    store.figures = [QueueFigures(pool="default", lane=Lane.BATCH, queued=9)]
    await FigureRefresher(latest, INTERVAL).run_once()

    assert series("queue_jobs", state="queued", **QUEUE) == 9
    assert series("queue_work_seconds", **QUEUE) is None
