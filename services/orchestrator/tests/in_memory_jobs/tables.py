"""The tables of jobs in memory, and the counters that are changed with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from chassis.tenancy import Principal
from orchestrator.jobs.errors import JobLeaseLost
from orchestrator.jobs.model import Job, JobKey, JobState, NewJob, RunRef
from orchestrator.reservations.attempts import AttemptsRecord
from orchestrator.usage.model import RequestUsage

COUNTED = {JobState.QUEUED: "queued", JobState.DISPATCHED: "dispatched", JobState.RUNNING: "running"}


class VirtualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, duration: timedelta) -> None:
        self.time += duration


class DispatchedEvent(NamedTuple):
    """A `JobDispatched` in the outbox."""

    run: RunRef
    pool: str
    lane: str


class FinishedEvent(NamedTuple):
    """A `JobFinished` in the outbox."""

    job: Job


Event = DispatchedEvent | FinishedEvent | RequestUsage


@dataclass(slots=True)
class Row:
    """A job that is not final."""

    job: Job
    new: NewJob
    due_at: datetime
    dispatched_at: datetime | None = None
    """Or when it was last offered to a worker."""
    record: AttemptsRecord | None = None
    request_id: str = ""

    @property
    def offered_at(self) -> datetime:
        """Only of one that was dispatched."""
        assert self.dispatched_at is not None
        return self.dispatched_at

    @property
    def principal(self) -> Principal:
        new = self.new
        return Principal(
            new.tenant_id,
            project_id=new.project_id,
            key_id=new.key_id,
            user_id=new.user_id,
            plan=new.plan,
            roles=frozenset({"service"}),
        )


@dataclass(slots=True)
class Queue:
    """A row of `tenant_queues`."""

    queued: int = 0
    queued_tokens: int = 0
    dispatched: int = 0
    running: int = 0
    deficit: int = 0


@dataclass(slots=True)
class Worker:
    pool: str
    slots: int
    seen_at: datetime


@dataclass(slots=True)
class Round:
    """A row of `job_rounds`."""

    number: int
    last: dict[str, datetime]
    """The last dispatch by lane."""


class JobTables:
    """No method awaits anything: each change is a transaction."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """`now` is the store's clock."""
        self.now = now
        self.rows: dict[JobKey, Row] = {}
        self.finished: dict[JobKey, tuple[Job, bytes]] = {}
        """With the fingerprints of their submissions."""
        self.queues: dict[tuple[str, str, str], Queue] = {}
        """By tenant, pool and lane."""
        self.workers: dict[str, Worker] = {}
        self.rounds: dict[str, Round] = {}
        self.pauses: set[tuple[str, str, str]] = set()
        """Tenant or "*", pool or "", model or ""."""
        self.outbox: list[Event] = []
        self.usage_ids: set[tuple[str, str]] = set()

    def counted(self) -> dict[tuple[str, str, str], tuple[int, int, int, int]]:
        """What `queues` have to equal: queued jobs, their tokens, dispatched and running jobs, by counting the rows."""
        counts: dict[tuple[str, str, str], list[int]] = {key: [0, 0, 0, 0] for key in self.queues}
        for row in self.rows.values():
            found = counts.setdefault((row.job.tenant_id, row.job.pool, row.job.lane.value), [0, 0, 0, 0])
            found[0] += row.job.state is JobState.QUEUED
            found[1] += row.new.cost_tokens * (row.job.state is JobState.QUEUED)
            found[2] += row.job.state is JobState.DISPATCHED
            found[3] += row.job.state is JobState.RUNNING
        return {key: (queued, tokens, sent, running) for key, (queued, tokens, sent, running) in counts.items()}

    def all_jobs(self) -> list[Job]:
        return [row.job for row in self.rows.values()] + [job for job, _ in self.finished.values()]

    def known(self, key: JobKey) -> tuple[Job, bytes] | None:
        row = self.rows.get(key)
        return self.finished.get(key) if row is None else (row.job, row.new.fingerprint)

    def in_state(self, *states: JobState) -> list[Row]:
        return [row for row in self.rows.values() if row.job.state in states]

    def fenced(self, run: RunRef, state: JobState) -> Row | None:
        """Return the job if it has this state and epoch."""
        row = self.rows.get(run.key)
        return row if row is not None and (row.job.state, row.job.epoch) == (state, run.epoch) else None

    def move(self, row: Row, **changes: Any) -> None:
        before = row.job.state
        row.job = replace(row.job, **changes)
        self.count(row, before, row.job.state)

    def count(self, row: Row, before: JobState | None, after: JobState | None) -> None:
        job = row.job
        queue = self.queues.setdefault((job.tenant_id, job.pool, job.lane.value), Queue())
        for state, change in ((before, -1), (after, 1)):
            if state is not None and state in COUNTED:
                setattr(queue, COUNTED[state], getattr(queue, COUNTED[state]) + change)
            if state is JobState.QUEUED:
                queue.queued_tokens += change * row.new.cost_tokens


def lease_lost() -> JobLeaseLost:
    return JobLeaseLost("another run has the job, or it has ended")
