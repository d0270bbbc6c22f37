"""Mistakes that an engine could make, one at a time: the simulation must find each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from chassis.errors import ArgosyError
from orchestrator.jobs import complete, reap, settle
from orchestrator.jobs.claim import Claims
from orchestrator.jobs.complete import Runs
from orchestrator.jobs.model import Job, JobState, RunRef
from orchestrator.jobs.runs import Run, RunEnd
from orchestrator.reservations.attempts import AttemptLog

from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.in_memory_jobs.tables import FinishedEvent, JobTables, Row
from services.orchestrator.tests.simulation import replica
from services.orchestrator.tests.simulation.worker import SimulatedWorker

Patch = Callable[[pytest.MonkeyPatch], None]


def drop_the_fencing(patch: pytest.MonkeyPatch) -> None:
    """Writes are accepted with any epoch."""

    def fenced(self: JobTables, run: RunRef, state: JobState) -> Row | None:
        row = self.rows.get(run.key)
        return row if row is not None and row.job.state is state else None

    patch.setattr(JobTables, "fenced", fenced)


def commit_before_the_claim(patch: pytest.MonkeyPatch) -> None:
    """A worker commits the offset when it has read the record."""
    claim_first = SimulatedWorker.claim

    async def commit_first(self: SimulatedWorker, record: RunRef) -> Any:
        self.commit(record)
        return await claim_first(self, record)

    patch.setattr(SimulatedWorker, "claim", commit_first)


def settle_returned_runs_twice(patch: pytest.MonkeyPatch) -> None:
    """A run that is handed back is settled by its end, and once more."""
    give_back = Runs.give_back

    async def twice(self: Runs, ref: RunRef, attempts: Any) -> None:
        (run,) = await self.store.running([ref])
        await give_back(self, ref, attempts)
        if run is not None and run.record is not None:
            used = AttemptLog.restored(run.record).priced(attempts)
            await self.reservations.recorder.record(run.principal, ref.request_id, used)

    patch.setattr(Runs, "give_back", twice)


def settle_at_release_and_at_reap(patch: pytest.MonkeyPatch) -> None:
    """A run that is handed back is settled, and then left for the reaper."""

    async def settle_only(self: Runs, ref: RunRef, attempts: Any) -> None:
        (run,) = await self.store.running([ref])
        if run is not None and run.record is not None:
            used = AttemptLog.restored(run.record).priced(attempts)
            await self.reservations.recorder.record(run.principal, ref.request_id, used)

    patch.setattr(Runs, "give_back", settle_only)


def forget_the_counter(patch: pytest.MonkeyPatch) -> None:
    """A queue still counts a run that has ended."""
    count = JobTables.count

    def forgetful(self: JobTables, row: Row, before: JobState | None, after: JobState | None) -> None:
        count(self, row, None if before is JobState.RUNNING else before, after)

    patch.setattr(JobTables, "count", forgetful)


def redeliver_without_a_new_epoch(patch: pytest.MonkeyPatch) -> None:
    """The job of a dead run keeps the epoch of that run."""
    died = settle.died

    def same_epoch(run: Run, *args: Any) -> RunEnd:
        end = died(run, *args)
        return end._replace(job=replace(end.job, epoch=run.job.epoch))

    patch.setattr(reap, "died", same_epoch)


def dispatch_without_a_new_epoch(patch: pytest.MonkeyPatch) -> None:
    """A record of an earlier dispatch is as good as that of the last."""
    move = JobTables.move

    def same_epoch(self: JobTables, row: Row, **changes: Any) -> None:
        if changes.get("state") is JobState.DISPATCHED:
            changes["epoch"] = row.job.epoch
        move(self, row, **changes)

    patch.setattr(JobTables, "move", same_epoch)


def count_a_returned_run_as_a_crash(patch: pytest.MonkeyPatch) -> None:
    """The crash that the claim has counted is not taken back when a run is handed back."""
    returned = settle.returned

    def crashed(run: Run, *args: Any) -> RunEnd:
        end = returned(run, *args)
        return end._replace(job=replace(end.job, crashes=run.job.crashes))

    patch.setattr(complete, "returned", crashed)


def skip_quarantine(patch: pytest.MonkeyPatch) -> None:
    """A job runs again, however many workers it has killed."""
    patch.setattr(replica, "POLICY", replace(replica.POLICY, max_crashes=1_000))


def finish_twice(patch: pytest.MonkeyPatch) -> None:
    """The end of a job is published twice, as two events."""
    finish = InMemoryJobStore._finish

    def twice(self: InMemoryJobStore, row: Row, job: Job) -> None:
        finish(self, row, job)
        self.outbox.append(FinishedEvent(job))

    patch.setattr(InMemoryJobStore, "_finish", twice)


def dispatch_paused_tenants(patch: pytest.MonkeyPatch) -> None:
    """A pause is not looked at."""
    patch.setattr(InMemoryJobStore, "is_paused", lambda self, job: False)


def finish_a_cancelled_job_with_its_answer(patch: pytest.MonkeyPatch) -> None:
    """An answer that comes after the cancellation wins."""
    completed = settle.completed

    def regardless(run: Run, *args: Any) -> RunEnd:
        end = completed(run._replace(job=replace(run.job, cancel_requested=False)), *args)
        return end._replace(cancel_requested=run.job.cancel_requested)

    patch.setattr(complete, "completed", regardless)


def reap_living_runs(patch: pytest.MonkeyPatch) -> None:
    """A run that was overdue when it was read is ended, though a heartbeat has come since."""
    died = settle.died

    def at_once(run: Run, *args: Any) -> RunEnd:
        return died(run, *args)

    patch.setattr(reap, "died", at_once)
    end_run = InMemoryJobStore._end_run

    def regardless_of_the_lease(self: InMemoryJobStore, end: RunEnd) -> Any:
        row = self.rows.get(end.run.key)
        if end.overdue and row is not None and row.job.ref == end.run:
            row.due_at = min(row.due_at, self.now())
        return end_run(self, end)

    patch.setattr(InMemoryJobStore, "_end_run", regardless_of_the_lease)


def forget_lost_dispatches(patch: pytest.MonkeyPatch) -> None:
    """A dispatch whose record is lost waits for ever."""

    async def nothing(self: InMemoryJobStore, limit: int) -> list[Job]:
        return []

    patch.setattr(InMemoryJobStore, "requeue_lost_dispatches", nothing)


def hand_plans_out_unsaved(patch: pytest.MonkeyPatch) -> None:
    """A worker gets its plan before the run's record is stored: the reaper does not know of its call."""
    prepare = Claims._prepare

    async def unsaved(self: Claims, claimed: Any) -> Any:
        return await prepare(replace(self, store=_Saved(self.store)), claimed)  # type: ignore[arg-type]

    patch.setattr(Claims, "_prepare", unsaved)


class _Saved:
    """A store that only says that it has saved runs."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def save_runs(self, runs: Any, lease: Any) -> list[None]:
        return [None for _ in runs]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def start_attempts_of_lost_runs(patch: pytest.MonkeyPatch) -> None:
    """A further provider call is allowed without a look at the run."""

    async def allowed(self: Runs, ref: RunRef, starting: Any) -> None:
        pass

    patch.setattr(Runs, "start_attempt", allowed)


def hand_back_what_may_not_be_claimed(patch: pytest.MonkeyPatch) -> None:
    """A worker whose claim has no answer hands the run back that it may have: it may be another worker's."""
    claim_first = SimulatedWorker.claim

    async def claim_or_hand_back(self: SimulatedWorker, record: RunRef) -> Any:
        claimed = await claim_first(self, record)
        if claimed is None:
            run = record._replace(epoch=record.epoch + 1)
            with suppress(ArgosyError):
                await self.world.call(self.process, lambda replica: replica.runs.give_back(run, []))
        return claimed

    patch.setattr(SimulatedWorker, "claim", claim_or_hand_back)


def hand_back_the_runs_of_others(patch: pytest.MonkeyPatch) -> None:
    """A claim after one without an answer ends any run of the dispatch, whoever has it."""

    async def hand_back(self: Claims, run: RunRef, worker_id: str) -> None:
        await self._give_back(run)

    patch.setattr(Claims, "_hand_back_unknown", hand_back)


def release_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """A run that died is queued again without being settled."""
    died = settle.died

    def unsettled(run: Run, *args: Any) -> RunEnd:
        return died(run, *args)._replace(usage=None)

    patch.setattr(reap, "died", unsettled)


MUTANTS: Mapping[str, Patch] = {
    mutant.__name__: mutant
    for mutant in (
        drop_the_fencing,
        commit_before_the_claim,
        settle_returned_runs_twice,
        settle_at_release_and_at_reap,
        forget_the_counter,
        redeliver_without_a_new_epoch,
        dispatch_without_a_new_epoch,
        count_a_returned_run_as_a_crash,
        skip_quarantine,
        finish_twice,
        dispatch_paused_tenants,
        finish_a_cancelled_job_with_its_answer,
        reap_living_runs,
        forget_lost_dispatches,
        hand_plans_out_unsaved,
        start_attempts_of_lost_runs,
        hand_back_what_may_not_be_claimed,
        hand_back_the_runs_of_others,
        release_without_a_word,
    )
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Make one mistake while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        yield
