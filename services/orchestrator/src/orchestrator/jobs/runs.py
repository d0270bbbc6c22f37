"""Runs of jobs: how they begin, and how they end."""

from datetime import datetime, timedelta
from typing import NamedTuple

from chassis.tenancy import Principal
from values.money import ZERO, NanoUsd
from values.usage import TokenUsage

from orchestrator.jobs.model import Job, JobError, JobState, RunRef, WaitReason
from orchestrator.reservations.attempts import AttemptsRecord
from orchestrator.usage.model import RequestUsage


class ClaimedJob(NamedTuple):
    """A job that a worker has from now on: what preparing its run needs."""

    job: Job
    principal: Principal
    """Of the key that submitted it, with the role "service"."""
    body: bytes
    now: datetime

    @property
    def run(self) -> RunRef:
        return self.job.ref


class Run(NamedTuple):
    """A running job, as it is read to decide on the end of its run."""

    job: Job
    principal: Principal
    record: AttemptsRecord | None
    """None before its plan was handed out: then no provider was called."""
    now: datetime


class Finish(NamedTuple):
    """The job becomes final."""

    state: JobState
    error: JobError | None = None
    result: bytes = b""


class Requeue(NamedTuple):
    """The job waits again, for `delay`."""

    delay: timedelta
    reason: WaitReason = WaitReason.TURN
    error: JobError | None = None
    errors: int = 0
    """Added to its errors."""
    crashed: bool = False
    """Whether the claim goes on to count as a crash. Then its epoch is raised, too: late reports are ignored."""


class Quarantine(NamedTuple):
    """The job waits for an operator. Its claim goes on to count as a crash."""


Next = Finish | Requeue | Quarantine


class RunEnd(NamedTuple):
    """The end of a run: settles it, and says what becomes of the job. Made by `settle`, from a `Run`."""

    run: RunRef
    next: Next
    cancel_requested: bool
    """As it was when `next` was decided: the end is refused if it has changed."""
    usage: RequestUsage | None = None
    """The event that settles the run; none where nothing was reserved."""
    used: TokenUsage | None = None
    """Added to the job's usage."""
    cost: NanoUsd = ZERO
    """Added to the job's cost."""
    overdue: bool = False
    """Whether it holds only while the lease has run out: a heartbeat may have come in between."""


class WaitingEnd(NamedTuple):
    """The end of a job that no worker has. It is refused unless the job still has this epoch and one of `WAITING`."""

    run: RunRef
    next: Finish


class Heartbeat(NamedTuple):
    """What became of a worker's runs."""

    lost: tuple[RunRef, ...]
    cancelled: tuple[RunRef, ...]
