"""The state of jobs in memory: implements `JobStore` and `JobReader` over dictionaries and a clock of the test's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from chassis.errors import ArgosyError
from orchestrator.jobs.errors import JobIdReused, JobNotClaimable, QueueFull
from orchestrator.jobs.model import Endpoint, Job, JobKey, JobState, NewJob, RunRef
from orchestrator.jobs.rows import new_to_job
from orchestrator.jobs.runs import ClaimedJob, Heartbeat, Run, RunEnd, WaitingEnd
from orchestrator.reservations.attempts import AttemptsRecord

from services.orchestrator.tests.in_memory_jobs.dispatches import InMemoryDispatches
from services.orchestrator.tests.in_memory_jobs.reader import InMemoryJobReader
from services.orchestrator.tests.in_memory_jobs.tables import FinishedEvent, Row, Worker, lease_lost

HOUR = timedelta(hours=1)


class InMemoryJobStore(InMemoryDispatches, InMemoryJobReader):
    """All of `JobStore`."""

    async def submit(self, jobs: Sequence[NewJob]) -> list[Job | ArgosyError]:
        return [self._submit(job) for job in jobs]

    def _submit(self, new: NewJob) -> Job | ArgosyError:
        known = self.known(new.key)
        if known is not None:
            job, fingerprint = known
            if fingerprint != new.fingerprint:
                return JobIdReused(f"the job {new.job_id} exists, with another request", param="job_id")
            return replace(job, result=b"")
        waiting = sum(queue.queued for (tenant, _, _), queue in self.queues.items() if tenant == new.tenant_id)
        if waiting >= new.max_queued:
            return QueueFull(f"{new.max_queued} jobs wait already, as many as the plan allows")
        now = self.now()
        row = Row(new_to_job(new, new.pool, now, now + new.deadline), new, now)
        self.rows[new.key] = row
        self.count(row, None, JobState.QUEUED)
        return row.job

    async def claim(self, claims: Sequence[tuple[RunRef, str]], lease: timedelta) -> list[ClaimedJob | ArgosyError]:
        return [self._claim(dispatch, worker_id, lease) for dispatch, worker_id in claims]

    def _claim(self, dispatch: RunRef, worker_id: str, lease: timedelta) -> ClaimedJob | ArgosyError:
        row = self.fenced(dispatch, JobState.DISPATCHED)
        if row is None:
            return JobNotClaimable("the dispatch is outdated, or the job has ended")
        now = self.now()
        crashes, epoch = row.job.crashes + 1, dispatch.epoch + 1
        self.move(row, state=JobState.RUNNING, epoch=epoch, crashes=crashes, started_at=now, worker_id=worker_id)
        row.due_at, row.record, row.request_id = now + lease, None, row.job.ref.request_id
        return ClaimedJob(row.job, row.principal, row.new.body, now)

    async def save_runs(
        self, runs: Sequence[tuple[RunRef, AttemptsRecord]], lease: timedelta
    ) -> list[ArgosyError | None]:
        return [self._save_run(run, record, lease) for run, record in runs]

    def _save_run(self, run: RunRef, record: AttemptsRecord, lease: timedelta) -> ArgosyError | None:
        row = self.fenced(run, JobState.RUNNING)
        if row is None:
            return lease_lost()
        row.record, row.due_at = record, self.now() + lease
        return None

    async def heartbeat(
        self, worker_id: str, pool: str, slots: int, runs: Sequence[RunRef], lease: timedelta
    ) -> Heartbeat:
        now = self.now()
        self.workers[worker_id] = Worker(pool, slots, now)
        lost, cancelled = [], []
        for run in runs:
            row = self.fenced(run, JobState.RUNNING)
            if row is None:
                lost.append(run)
                continue
            row.due_at = now + lease
            if row.job.cancel_requested:
                cancelled.append(run)
        return Heartbeat(tuple(lost), tuple(cancelled))

    async def running(self, runs: Sequence[RunRef]) -> list[Run | None]:
        rows = [self.fenced(run, JobState.RUNNING) for run in runs]
        return [None if row is None else self._run(row) for row in rows]

    async def overdue_runs(self, limit: int) -> list[Run]:
        rows = [row for row in self.in_state(JobState.RUNNING) if row.due_at <= self.now()]
        return [self._run(row) for row in sorted(rows, key=lambda row: row.due_at)[:limit]]

    def _run(self, row: Row) -> Run:
        body = row.new.body if row.new.endpoint is Endpoint.EMBEDDINGS else b""
        return Run(row.job, row.principal, row.record, self.now(), body)

    async def end_runs(self, ends: Sequence[RunEnd]) -> list[Job | ArgosyError]:
        return [self._end_run(end) for end in ends]

    def _end_run(self, end: RunEnd) -> Job | ArgosyError:
        row = self.fenced(end.run, JobState.RUNNING)
        if row is None or row.job.cancel_requested != end.cancel_requested:
            return lease_lost()
        if end.overdue and row.due_at > self.now():
            return lease_lost()
        if end.usage is not None and (end.usage.tenant_id, end.usage.event_id) not in self.usage_ids:
            self.usage_ids.add((end.usage.tenant_id, end.usage.event_id))
            self.outbox.append(end.usage)
        if end.job.is_final:
            self._finish(row, end.job)
        else:
            row.due_at = self.now() + end.delay if end.delay else row.job.created_at
            row.record, row.request_id = None, ""
            job = end.job
            self.move(
                row,
                epoch=job.epoch,
                state=job.state,
                state_reason=job.state_reason,
                errors=job.errors,
                crashes=job.crashes,
                error=job.error,
                usage=job.usage,
                cost=job.cost,
            )
        return end.job

    async def end_waiting(self, ends: Sequence[WaitingEnd]) -> list[Job | ArgosyError]:
        return [self._end_waiting(end) for end in ends]

    def _end_waiting(self, end: WaitingEnd) -> Job | ArgosyError:
        row = self.rows.get(end.run.key)
        if row is None or row.job.epoch != end.run.epoch or row.job.state is JobState.RUNNING:
            return lease_lost()
        self._finish(row, end.job)
        return end.job

    def _finish(self, row: Row, job: Job) -> None:
        self.count(row, row.job.state, None)
        del self.rows[row.new.key]
        self.finished[row.new.key] = (job, row.new.fingerprint)
        self.outbox.append(FinishedEvent(job))

    async def read(self, key: JobKey) -> tuple[Job, datetime] | None:
        known = self.known(key)
        return None if known is None else (replace(known[0], result=b""), self.now())

    async def request_cancel(self, run: RunRef) -> Job | None:
        row = self.fenced(run, JobState.RUNNING)
        if row is None:
            return None
        self.move(row, cancel_requested=True)
        return row.job

    async def past_deadline(self, limit: int) -> tuple[list[Job], datetime]:
        late = [row.job for row in self.in_state(JobState.QUEUED, JobState.DISPATCHED)]
        late = [job for job in late if job.deadline_at <= self.now()]
        return sorted(late, key=lambda job: job.deadline_at)[:limit], self.now()

    async def retry_quarantined(self, key: JobKey, deadline: timedelta) -> Job | None:
        row = self.rows.get(key)
        if row is None or row.job.state is not JobState.QUARANTINED:
            return None
        row.due_at = self.now()
        deadline_at = self.now() + deadline
        row.job = replace(row.job, epoch=row.job.epoch + 1)
        self.move(row, state=JobState.QUEUED, state_reason="", errors=0, crashes=0, deadline_at=deadline_at)
        return row.job

    async def running_requests(self, requests: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        running = {(row.job.tenant_id, row.request_id) for row in self.in_state(JobState.RUNNING)}
        return running & set(requests)

    async def keep_partitions(self, days_ahead: int) -> tuple[int, int]:
        today = self.now().date()
        expired = [key for key, (job, _) in self.finished.items() if job.expires_at and job.expires_at.date() < today]
        for key in expired:
            del self.finished[key]
        self.workers = {name: one for name, one in self.workers.items() if one.seen_at >= self.now() - HOUR}
        return 0, len(expired)
