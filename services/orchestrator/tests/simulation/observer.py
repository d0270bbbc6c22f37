"""Compares every change of the store with what may change, at the moment at which it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from orchestrator.jobs.model import FINAL, Job, JobKey, JobState, RunRef
from orchestrator.jobs.runs import ClaimedJob

from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.in_memory_jobs.tables import Event, FinishedEvent

S = JobState
MOVES: Mapping[str, set[tuple[JobState | None, JobState]]] = {
    "submit": {(None, S.QUEUED)},
    "dispatch": {(S.QUEUED, S.DISPATCHED)},
    "claim": {(S.DISPATCHED, S.RUNNING)},
    "end_runs": {(S.RUNNING, after) for after in {S.QUEUED, S.QUARANTINED, *FINAL}},
    "end_waiting": {(before, after) for before in (S.QUEUED, S.DISPATCHED, S.QUARANTINED) for after in FINAL},
    "request_cancel": {(S.RUNNING, S.RUNNING)},
    "requeue_lost_dispatches": {(S.DISPATCHED, S.QUEUED)},
    "retry_quarantined": {(S.QUARANTINED, S.QUEUED)},
    "save_runs": set(),
    "heartbeat": set(),
}
"""The state before and after, by method; methods that are not here change no job."""
MAX_CRASHES = 3


class Seen(NamedTuple):
    """A job before a change."""

    job: Job
    due_at: datetime


class Counters(NamedTuple):
    errors: int
    crashes: int


class Observer:
    """Executes the calls of the store."""

    def __init__(
        self,
        store: InMemoryJobStore,
        on_breach: Callable[[str], None],
        on_change: Callable[[str, str, Job | None, Job], None],
        on_event: Callable[[Event], None],
    ) -> None:
        self._store = store
        self._on_breach = on_breach
        self._on_change = on_change
        self._on_event = on_event
        self._begun: dict[RunRef, Counters] = {}
        self._published = 0
        self.claims = 0
        self.returning: set[RunRef] = set()
        """Runs that their workers hand back."""
        self.cancelled: set[JobKey] = set()
        """Jobs whose cancellation was confirmed to their client."""
        self.paused: dict[str, datetime] = {}
        """Tenants, and since when."""
        self.final: dict[JobKey, Job] = {}

    async def execute(self, process: Any, method: str, *args: Any) -> Any:
        """Run one transaction."""
        if method not in MOVES:
            return await getattr(self._store, method)(*args)
        before = {key: Seen(row.job, row.due_at) for key, row in self._store.rows.items()}
        result = await getattr(self._store, method)(*args)
        for run, state in _accepted(method, args, result):
            self._check_fence(method, run, state, before)
        for old, new in self._changes(before):
            self._check_move(method, old, new)
            self._on_change(process.name, method, old, new)
        self._check_method(method, args, result, before)
        self._check_counters(method)
        self.publish()
        return result

    def publish(self) -> None:
        """Hand new events of the outbox on."""
        events, self._published = self._store.outbox[self._published :], len(self._store.outbox)
        for event in events:
            if isinstance(event, FinishedEvent):
                self._note_final(event.job)
            self._on_event(event)

    def _changes(self, before: Mapping[JobKey, Seen]) -> Iterator[tuple[Job | None, Job]]:
        for key, (old, _) in before.items():
            row = self._store.rows.get(key)
            new = self._store.finished[key][0] if row is None else row.job
            if new is not old:
                yield old, new
        for key, row in self._store.rows.items():
            if key not in before:
                yield None, row.job

    def _note_final(self, job: Job) -> None:
        key = job.ref.key
        if key in self.final:
            self._on_breach(f"{key.job_id} has two JobFinished events")
        self.final[key] = job
        if key in self.cancelled and job.state is not S.CANCELLED:
            self._on_breach(f"{key.job_id} has {job.state} after its cancellation was confirmed")

    def _check_fence(self, method: str, run: RunRef, state: JobState, before: Mapping[JobKey, Seen]) -> None:
        seen = before.get(run.key)
        if seen is None or (seen.job.state, seen.job.epoch) != (state, run.epoch):
            now = "gone" if seen is None else f"{seen.job.state} with epoch {seen.job.epoch}"
            self._on_breach(f"{method} of {run.job_id} with epoch {run.epoch} was accepted: the job is {now}")

    def _check_move(self, method: str, old: Job | None, new: Job) -> None:
        move = (None if old is None else old.state, new.state)
        if move not in MOVES[method]:
            self._on_breach(f"{method} made {new.job_id} {new.state}, which was {move[0]}")
        if old is not None and new.epoch < old.epoch:
            self._on_breach(f"{method} lowered the epoch of {new.job_id}")
        if method in {"dispatch", "claim"} and old is not None and new.epoch != old.epoch + 1:
            self._on_breach(f"{method} of {new.job_id} kept its epoch")
        if new.crashes > MAX_CRASHES or (new.state is S.QUARANTINED and new.crashes != MAX_CRASHES):
            self._on_breach(f"{new.job_id} is {new.state} after {new.crashes} crashes")

    def _check_method(self, method: str, args: tuple[Any, ...], result: Any, before: Mapping[JobKey, Seen]) -> None:
        if method == "claim":
            for claimed in result:
                if isinstance(claimed, ClaimedJob):
                    self.claims += 1
                    job = before[claimed.run.key].job
                    self._begun[claimed.run] = Counters(job.errors, job.crashes)
        elif method == "end_runs":
            for end, ended in zip(args[0], result, strict=True):
                if isinstance(ended, Job):
                    self._check_end(end, before)
        elif method == "dispatch" and result is not None:
            for one in result:
                paused_at = self.paused.get(one.run.tenant_id)
                # A plan that was read before the pause may be written after it.
                if paused_at is not None and args[0].now > paused_at:
                    self._on_breach(f"{one.run.job_id} was dispatched while its tenant is paused")

    def _check_end(self, end: Any, before: Mapping[JobKey, Seen]) -> None:
        seen, begun = before[end.run.key], self._begun.get(end.run)
        if begun is None or seen.job.ref != end.run:
            return  # reported by the fence
        job = end.job
        crashed = job.crashes - begun.crashes
        if crashed != end.overdue:
            self._on_breach(f"{job.job_id} counts {crashed} crashes for a run that {_how(end)}")
        if job.errors > begun.errors + (not end.overdue) or (end.run in self.returning and job.errors != begun.errors):
            self._on_breach(f"{job.job_id} counts {job.errors - begun.errors} errors for a run that {_how(end)}")
        if end.overdue and (seen.due_at > self._store.now() or (not job.is_final and job.epoch <= end.run.epoch)):
            self._on_breach(f"the run {end.run.request_id} was taken for dead while its lease held, or kept its epoch")
        if job.state is S.SUCCEEDED and job.result != answer_of(end.run):
            self._on_breach(f"{job.job_id} has the answer {job.result!r}")

    def _check_counters(self, method: str) -> None:
        counted = self._store.counted()
        for key, queue in self._store.queues.items():
            kept = (queue.queued, queue.queued_tokens, queue.dispatched, queue.running)
            if kept != counted[key]:
                self._on_breach(f"after {method} the queue {key} counts {kept}, and its jobs are {counted[key]}")


def answer_of(run: RunRef) -> bytes:
    """The answer that a worker reports for a run."""
    return f'{{"answer":"{run.request_id}"}}'.encode()


def _how(end: Any) -> str:
    return "died" if end.overdue else "was reported"


def _accepted(method: str, args: tuple[Any, ...], result: Any) -> list[tuple[RunRef, JobState]]:
    """Return the runs whose writes were accepted, and the state that each job must have had."""
    if method == "dispatch":
        return [(one.run._replace(epoch=one.run.epoch - 1), S.QUEUED) for one in result or ()]
    if method == "claim":
        pairs = zip(args[0], result, strict=True)
        return [(run, S.DISPATCHED) for (run, _), claimed in pairs if isinstance(claimed, ClaimedJob)]
    if method == "save_runs":
        return [(run, S.RUNNING) for (run, _), error in zip(args[0], result, strict=True) if error is None]
    if method == "heartbeat":
        return [(run, S.RUNNING) for run in args[3] if run not in result.lost]
    if method == "end_runs":
        return [(end.run, S.RUNNING) for end, job in zip(args[0], result, strict=True) if isinstance(job, Job)]
    if method == "request_cancel" and result is not None:
        return [(args[0], S.RUNNING)]
    return []
