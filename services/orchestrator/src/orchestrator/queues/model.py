"""The queue of each pool and lane, and pauses."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from chassis.errors import InvalidRequest

from orchestrator.jobs.model import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """The jobs of one pool and lane at one instant."""

    pool: str
    lane: Lane
    queued: int = 0
    paused: int = 0
    """Of the queued jobs, those of a paused tenant or pool."""
    queued_tokens: int = 0
    """The most that the queued jobs can use."""
    dispatched: int = 0
    running: int = 0
    oldest_wait: timedelta | None = None
    """Of the queued job that is due for longest; None when none is due."""
    mean_run: timedelta | None = None
    """Of recent jobs, from the claim to the end; None when there are none."""
    slots: int = 0
    """Of the pool's live workers, which serve all of its lanes."""
    tenants: int = 0
    """Tenants with queued jobs."""

    @property
    def waiting(self) -> int:
        """Queued jobs that workers would help: no number of them runs what is paused."""
        return self.queued - self.paused

    @property
    def unfinished(self) -> int:
        """Without what is paused."""
        return self.waiting + self.dispatched + self.running

    @property
    def work(self) -> timedelta | None:
        """What one slot needs for the waiting jobs; None when no recent job says how long one takes."""
        if not self.waiting:
            return timedelta(0)
        return None if self.mean_run is None else self.waiting * self.mean_run


class PauseSelector(NamedTuple):
    """Which jobs a pause is for; an empty field matches all."""

    tenant_id: str = ""
    pool: str = ""
    model: str = ""

    def check(self) -> None:
        """Raises InvalidRequest for a selector that matches everything: nobody pauses all by leaving a field out."""
        if not any(self):
            raise InvalidRequest("A tenant, a pool or a model must be named.", param="selector")
