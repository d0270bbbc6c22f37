"""Runs of jobs: how they begin, and how they end."""

from datetime import datetime, timedelta
from typing import NamedTuple

from chassis.tenancy import Principal

from orchestrator.jobs.model import Job, RunRef
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
    """The store's clock when it was read."""
    body: bytes = b""
    """Of the request, where the answer needs it: of embeddings."""


class RunEnd(NamedTuple):
    """The end of a run, decided on a `Run` that was read: the job as it is to be, and the event that settles the run.

    `job` is queued, quarantined or final. Its epoch is that of the run; one more when the run's worker is taken for
    dead, so that late reports are refused. Its times are those of the `Run`.
    """

    run: RunRef
    job: Job
    at: datetime
    """When it was decided, by the store's clock."""
    delay: timedelta = timedelta(0)
    """Until a queued job is due."""
    usage: RequestUsage | None = None
    """The event that settles the run; none where nothing was reserved."""
    cancel_requested: bool = False
    """As it was when the end was decided: the end is refused if it has changed."""
    overdue: bool = False
    """Whether the end holds only while the lease has run out: a heartbeat may have come in between."""


class WaitingEnd(NamedTuple):
    """The end of a job that no worker has. Refused unless the job still has this epoch and one of `WAITING`."""

    run: RunRef
    job: Job
    """As it is to be: final."""


class Heartbeat(NamedTuple):
    """What became of a worker's runs."""

    lost: tuple[RunRef, ...]
    cancelled: tuple[RunRef, ...]
