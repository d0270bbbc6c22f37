"""Ends runs: reads a run, decides what becomes of its job, and writes that, until the decision holds."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chassis.errors import ArgosyError
from chassis.ids import new_id

from orchestrator.jobs.errors import JobLeaseLost
from orchestrator.jobs.model import Job, JobState, RunRef
from orchestrator.jobs.ports import JobSignals, JobStore
from orchestrator.jobs.runs import Run, RunEnd
from orchestrator.jobs.settle import Draw

Decision = Callable[[Run, Draw], Awaitable[RunEnd]]
MAX_TRIES = 5
"""Each of them lost to a change of the job in between, of which there is one: a cancellation."""


def new_draw() -> Draw:
    return Draw(new_id("evt_"), random.random())  # noqa: S311 - jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnds:
    """Ends runs of jobs."""

    store: JobStore
    signals: JobSignals
    on_room: Callable[[], None]
    """Called when a worker has room for another job, or a job waits again."""

    async def end(self, run: RunRef, decide: Decision) -> Job:
        """End a run; return the job as it is then. Raises `JobLeaseLost`, `Unavailable`, and what `decide` raises."""
        for _ in range(MAX_TRIES):
            (found,) = await self.store.running([run])
            if found is None:
                break
            (result,) = await self.store.end_runs([await decide(found, new_draw())])
            if isinstance(result, Job):
                self.signals.changed(result)
                self.on_room()
                return result
            if not isinstance(result, JobLeaseLost):
                raise result
        raise JobLeaseLost("another run has the job, or it has ended")

    async def end_or_repeat(self, run: RunRef, decide: Decision) -> Job:
        """As `end`; when the run has ended already, return the job as long as nothing has happened to it since."""
        try:
            return await self.end(run, decide)
        except JobLeaseLost:
            found = await self.store.read(run.key)
            if found is None or found[0].epoch != run.epoch or found[0].state in _BEGUN:
                raise
            return found[0]


_BEGUN = frozenset({JobState.DISPATCHED, JobState.RUNNING})


def raise_error(result: object) -> None:
    """Raise a result that is an error."""
    if isinstance(result, ArgosyError):
        raise result
