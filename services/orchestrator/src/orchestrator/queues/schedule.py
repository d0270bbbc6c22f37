"""Reads the figures of all queues every few seconds, for metrics and for the external scaler."""

from collections.abc import Sequence
from datetime import timedelta

from chassis.errors import ArgosyError

from orchestrator.metrics import (
    POOL_SLOTS,
    QUEUE_JOBS,
    QUEUE_OLDEST_WAIT_SECONDS,
    QUEUE_TENANTS,
    QUEUE_TOKENS,
    QUEUE_WORK_SECONDS,
    QUEUES_READ_SECONDS,
)
from orchestrator.queues.figures import READ_TIMEOUT_SECONDS, LatestFigures
from orchestrator.queues.model import QueueFigures

GAUGES = (QUEUE_JOBS, QUEUE_OLDEST_WAIT_SECONDS, QUEUE_TOKENS, QUEUE_WORK_SECONDS, QUEUE_TENANTS, POOL_SLOTS)


class FigureRefresher:
    """`run_once` is for `periodic`. A scrape between two runs must not see stale figures, so they end one run early."""

    def __init__(self, figures: LatestFigures, interval: timedelta) -> None:
        self._figures = figures
        self._next_run = interval + timedelta(seconds=READ_TIMEOUT_SECONDS)

    async def run_once(self) -> None:
        try:
            with QUEUES_READ_SECONDS.time():
                await self._figures.refresh()
        finally:
            self._set_gauges()

    def _set_gauges(self) -> None:
        try:
            figures = self._figures.current(within=self._next_run)
        except ArgosyError:
            figures = ()
        set_gauges(figures)


def set_gauges(figures: Sequence[QueueFigures]) -> None:
    """Set all series; one that has no figure now is removed, which is not the same as 0."""
    for gauge in GAUGES:
        gauge.clear()
    for queue in figures:
        labels = (queue.pool, queue.lane.value)
        for state in ("queued", "dispatched", "running"):
            QUEUE_JOBS.labels(*labels, state).set(getattr(queue, state))
        QUEUE_OLDEST_WAIT_SECONDS.labels(*labels).set(queue.oldest_wait.total_seconds() if queue.oldest_wait else 0)
        QUEUE_TOKENS.labels(*labels).set(queue.queued_tokens)
        QUEUE_TENANTS.labels(*labels).set(queue.tenants)
        if queue.work is not None:
            QUEUE_WORK_SECONDS.labels(*labels).set(queue.work.total_seconds())
        POOL_SLOTS.labels(queue.pool).set(queue.slots)
