"""Queues in memory."""

from collections.abc import Sequence
from datetime import timedelta

from chassis.errors import Unavailable
from orchestrator.jobs.model import Lane
from orchestrator.queues.model import PauseSelector, QueueFigures

BATCH = QueueFigures(
    pool="default",
    lane=Lane.BATCH,
    queued=30,
    queued_tokens=3_000,
    dispatched=4,
    running=2,
    oldest_wait=timedelta(seconds=90),
    mean_run=timedelta(seconds=2.5),
    slots=16,
    tenants=3,
)
INTERACTIVE = QueueFigures(pool="default", lane=Lane.INTERACTIVE, running=1, slots=16)


class FakeQueueStore:
    """`QueueStore`. A test sets the figures; `broken` is a store that does not answer."""

    def __init__(self, *figures: QueueFigures) -> None:
        self.figures: Sequence[QueueFigures] = figures
        self.broken = False
        self._pauses: list[PauseSelector] = []

    async def read_figures(self) -> Sequence[QueueFigures]:
        if self.broken:
            raise Unavailable("the store does not answer")
        return self.figures

    async def list_pauses(self) -> Sequence[PauseSelector]:
        return self._pauses

    async def pause(self, selector: PauseSelector) -> None:
        if selector not in self._pauses:
            self._pauses.append(selector)

    async def resume(self, selector: PauseSelector) -> None:
        self._pauses = [pause for pause in self._pauses if pause != selector]
