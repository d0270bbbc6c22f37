"""The state of jobs in Postgres."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import asyncpg
from chassis.errors import ArgosyError, Internal
from chassis.postgres import Database, GroupCommit
from chassis.postgres.database import STATEMENT_TIMEOUT_SECONDS
from chassis.telemetry import logger

from orchestrator.jobs import round_statements as round_sql
from orchestrator.jobs import statements as sql
from orchestrator.jobs.errors import JobDeadlineExceeded, JobIdReused, JobLeaseLost, JobNotClaimable, QueueFull
from orchestrator.jobs.model import Job, JobKey, JobState, Lane, NewJob, RunRef
from orchestrator.jobs.offers.postgres import PostgresOffers
from orchestrator.jobs.outbox import OutboxRow, dispatch_to_event, end_to_events, event_columns
from orchestrator.jobs.round_rows import rows_to_pools
from orchestrator.jobs.rounds import Dispatched, DispatchPlan, PoolQueues
from orchestrator.jobs.rows import (
    columns,
    ends_to_arguments,
    new_to_job,
    new_to_row,
    record_to_row,
    row_to_claimed,
    row_to_job,
    row_to_run,
)
from orchestrator.jobs.runs import ClaimedJob, Heartbeat, Run, RunEnd, WaitingEnd
from orchestrator.metrics import (
    JOB_DISPATCH_SECONDS,
    JOB_RUN_SECONDS,
    JOB_TRANSITIONS,
    JOBS_QUARANTINED,
    JOBS_REAPED,
)
from orchestrator.reservations.attempts import AttemptsRecord

LARGE_RESULT_BYTES = 1024 * 1024
LARGE_RESULT_LEASE = timedelta(seconds=2 * STATEMENT_TIMEOUT_SECONDS)
"""No heartbeat reaches the row while it is stored. If that fails, the job would run, and be paid, again."""
GROUP_COMMIT_INTERVAL = timedelta(milliseconds=4)
"""Under load, the time from the end of one commit to the next: fewer commits of more jobs."""

log = logger("orchestrator.jobs")

_TRANSITIONS = {state: JOB_TRANSITIONS.labels(state.value) for state in JobState}
_REAPED = {what: JOBS_REAPED.labels(what) for what in ("run", "dispatch", "deadline")}

T = TypeVar("T")
R = TypeVar("R")


class PostgresJobStore(PostgresOffers):
    """Implements `JobStore`. Calls that wait at the same time share one transaction."""

    def __init__(self, database: Database, on_written: Callable[[], None], on_dispatched: Callable[[], None]) -> None:
        """`on_written` is called after a commit with events, `on_dispatched` after one with dispatches."""
        super().__init__(database)
        self._on_written = on_written
        self._on_dispatched = on_dispatched
        self._submissions = _Grouped(self._submit)
        self._claims = _Grouped(self._claim)
        self._saves = _Grouped(self._save_runs)
        self._ends = _Grouped(self._end)
        self._reads = _Grouped(self._running)

    async def submit(self, jobs: Sequence[NewJob]) -> list[Job | ArgosyError]:
        return await self._submissions.write(jobs)

    async def waiting(self) -> list[PoolQueues]:
        return rows_to_pools(await self._fetch(round_sql.WAITING))

    async def dispatch(self, plan: DispatchPlan, claim_within: timedelta) -> list[Dispatched] | None:
        events = [dispatch_to_event(place, plan, run, plan.lanes[run]) for place, run in enumerate(plan.jobs, 1)]
        rows = await self._fetch(
            round_sql.DISPATCH,
            plan.pool,
            plan.round,
            sorted(set(plan.lanes.values())),
            *columns(plan.jobs, 3),
            claim_within,
            *columns([(tenant, lane, deficit) for (lane, tenant), deficit in plan.deficits.items()], 3),
            [event.id for event, _ in events],
            [event.topic for event, _ in events],
            [event.value for event, _ in events],
            [headers for _, headers in events],
        )
        if not rows[0]["written"]:
            return None
        self._on_dispatched()
        dispatched = [
            Dispatched(RunRef(row["tenant_id"], row["job_id"], row["epoch"]), Lane(row["lane"]), row["waited"])
            for row in rows
            if row["job_id"] is not None
        ]
        _TRANSITIONS[JobState.DISPATCHED].inc(len(dispatched))
        for one in dispatched:
            JOB_DISPATCH_SECONDS.observe(one.waited.total_seconds())
        return dispatched

    async def claim(self, claims: Sequence[tuple[RunRef, str]], lease: timedelta) -> list[ClaimedJob | ArgosyError]:
        return await self._claims.write([(*run, worker_id, lease) for run, worker_id in claims])

    async def save_runs(
        self, runs: Sequence[tuple[RunRef, AttemptsRecord]], lease: timedelta
    ) -> list[ArgosyError | None]:
        return await self._saves.write([(*run, record_to_row(record), lease) for run, record in runs])

    async def heartbeat(
        self, worker_id: str, pool: str, slots: int, runs: Sequence[RunRef], lease: timedelta
    ) -> Heartbeat:
        rows = await self._fetch(sql.HEARTBEAT, worker_id, pool, slots, *columns(runs, 3), lease)
        cancelled = {row["place"] - 1: row["cancelled"] for row in rows}
        return Heartbeat(
            tuple(run for place, run in enumerate(runs) if place not in cancelled),
            tuple(run for place, run in enumerate(runs) if cancelled.get(place)),
        )

    async def running(self, runs: Sequence[RunRef]) -> list[Run | None]:
        return await self._reads.write(runs)  # type: ignore[return-value]  # it refuses none

    async def overdue_runs(self, limit: int) -> list[Run]:
        return [row_to_run(row) for row in await self._fetch(sql.OVERDUE_RUNS, limit)]

    async def end_runs(self, ends: Sequence[RunEnd]) -> list[Job | ArgosyError]:
        return await self._ends.write(ends)

    async def end_waiting(self, ends: Sequence[WaitingEnd]) -> list[Job | ArgosyError]:
        return await self._ends.write(ends)

    async def read(self, key: JobKey) -> tuple[Job, datetime] | None:
        rows = await self._fetch(sql.FIND, [key.tenant_id], [key.job_id])
        return (row_to_job(rows[0]), rows[0]["now"]) if rows else None

    async def request_cancel(self, run: RunRef) -> Job | None:
        rows = await self._fetch(sql.REQUEST_CANCEL, *run)
        return row_to_job(rows[0]) if rows else None

    async def requeue_lost_dispatches(self, limit: int) -> list[Job]:
        jobs = [row_to_job(row) for row in await self._fetch(sql.REQUEUE_LOST, limit)]
        _REAPED["dispatch"].inc(len(jobs))
        return jobs

    async def past_deadline(self, limit: int) -> tuple[list[Job], datetime]:
        rows = await self._fetch(sql.PAST_DEADLINE, limit)
        return [row_to_job(row) for row in rows], rows[0]["now"] if rows else datetime.min.replace(tzinfo=UTC)

    async def retry_quarantined(self, key: JobKey, deadline: timedelta) -> Job | None:
        rows = await self._fetch(sql.RETRY_QUARANTINED, *key, deadline)
        return row_to_job(rows[0]) if rows else None

    async def running_requests(self, requests: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        rows = await self._fetch(sql.RUNNING_REQUESTS, *columns(list(requests), 2))
        return {(tenant, request_id) for tenant, request_id in rows}

    async def keep_partitions(self, days_ahead: int) -> tuple[int, int]:
        ((made, dropped),) = await self._fetch("SELECT * FROM orchestration.keep_job_partitions($1)", days_ahead)
        await self._fetch(sql.FORGET_WORKERS)
        return made, dropped

    async def _submit(self, jobs: list[NewJob]) -> list[Job | ArgosyError]:
        rows = await self._fetch(sql.SUBMIT, *columns([new_to_row(job) for job in jobs], 19))
        _TRANSITIONS[JobState.QUEUED].inc(len(rows))
        stored = {(row["tenant_id"], row["job_id"]): row for row in rows}
        results: list[Job | ArgosyError | None] = []
        for job in jobs:
            # Removed: a second submission of the same id in this batch is a repetition.
            row = stored.pop(job.key, None)
            results.append(None if row is None else new_to_job(job, row["pool"], row["created_at"], row["deadline_at"]))
        missing = [job for job, result in zip(jobs, results, strict=True) if result is None]
        found = await self._find(missing) if missing else {}
        return [
            _repeated(job, found.get(job.key)) if result is None else result
            for job, result in zip(jobs, results, strict=True)
        ]

    async def _find(self, jobs: list[NewJob]) -> dict[JobKey, tuple[Job, bytes]]:
        rows = await self._fetch(sql.FIND, *columns([job.key for job in jobs], 2))
        return {JobKey(row["tenant_id"], row["job_id"]): (row_to_job(row), row["fingerprint"]) for row in rows}

    async def _claim(self, claims: list[tuple[Any, ...]]) -> list[ClaimedJob | ArgosyError]:
        *columns_of_claims, leases = columns(claims, 5)
        rows = await self._fetch(sql.CLAIM, *columns_of_claims, leases[0])
        claimed = {row["place"]: row_to_claimed(row) for row in rows}
        _TRANSITIONS[JobState.RUNNING].inc(len(claimed))
        refused = JobNotClaimable("the dispatch is outdated, or the job has ended")
        return [claimed.get(place, refused) for place in range(1, len(claims) + 1)]

    async def _save_runs(self, runs: list[tuple[Any, ...]]) -> list[ArgosyError | None]:
        *columns_of_runs, leases = columns(runs, 5)
        saved = {row["place"] for row in await self._fetch(sql.SAVE_RUNS, *columns_of_runs, leases[0])}
        return [None if place in saved else lease_lost() for place in range(1, len(runs) + 1)]

    async def _running(self, runs: list[RunRef]) -> list[Run | ArgosyError | None]:
        found = {row["place"]: row_to_run(row) for row in await self._fetch(sql.RUNNING, *columns(runs, 3))}
        return [found.get(place) for place in range(1, len(runs) + 1)]

    async def _end(self, ends: list[RunEnd | WaitingEnd]) -> list[Job | ArgosyError]:
        # Of two ends of one run in a batch the first counts.
        last = {end.run.key: place for place, end in reversed(list(enumerate(ends)))}
        unique = [end for place, end in enumerate(ends) if last[end.run.key] == place]
        events: list[OutboxRow] = []
        for place, end in enumerate(unique, 1):
            events += end_to_events(place, end)
        if large := [end.run for end in unique if _is_large(end)]:
            await self._fetch(sql.EXTEND_LEASES, *columns(large, 3), LARGE_RESULT_LEASE)
        arguments = (*columns(ends_to_arguments(unique), 18), *event_columns(events))
        try:
            rows = await self._fetch(sql.END, *arguments)
        except asyncpg.CheckViolationError:
            # No partition yet for the day on which a result expires: a plan keeps results for longer than before.
            retentions = [end.job.retention for end in unique if end.job.is_final]
            await self.keep_partitions(max(retentions, default=timedelta(0)).days + 2)
            rows = await self._fetch(sql.END, *arguments)
        if events:
            self._on_written()
        ended = {unique[row["place"] - 1].run.key for row in rows}
        _count([unique[row["place"] - 1] for row in rows])
        return [
            end.job if end.run.key in ended and last[end.run.key] == place else lease_lost()
            for place, end in enumerate(ends)
        ]


class _Grouped(Generic[T, R]):
    """Group commit of lists: the items of one call are in one transaction, and those of several calls may be."""

    def __init__(self, write: Callable[[list[T]], Awaitable[list[R | ArgosyError]]]) -> None:
        self._write = write
        self._group: GroupCommit[Sequence[T], list[R | ArgosyError]] = GroupCommit(
            self._commit, interval=GROUP_COMMIT_INTERVAL
        )

    async def write(self, items: Sequence[T]) -> list[R | ArgosyError]:
        return await self._group.submit(items) if items else []

    async def _commit(self, calls: list[Sequence[T]]) -> list[list[R | ArgosyError] | ArgosyError]:
        try:
            results = iter(await self._write([item for items in calls for item in items]))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.DataError) as error:
            # An item that cannot be stored must not fail the others.
            log.warning("job_batch_failed", calls=len(calls), error=type(error).__name__)
            return [[await self._alone(item) for item in items] for items in calls]
        return [[next(results) for _ in items] for items in calls]

    async def _alone(self, item: T) -> R | ArgosyError:
        try:
            (result,) = await self._write([item])
        except ArgosyError as error:
            return error
        except Exception as error:
            log.exception("job_write_failed", error=type(error).__name__)
            return Internal("the job could not be stored")
        return result


def _is_large(end: RunEnd | WaitingEnd) -> bool:
    return isinstance(end, RunEnd) and not end.overdue and len(end.job.result or b"") > LARGE_RESULT_BYTES


def lease_lost() -> JobLeaseLost:
    return JobLeaseLost("another run has the job, or it has ended")


def _count(ends: Sequence[RunEnd | WaitingEnd]) -> None:
    for end in ends:
        job = end.job
        _TRANSITIONS[job.state].inc()
        log.info(
            "job",
            tenant_id=job.tenant_id,
            job_id=job.job_id,
            state=job.state.value,
            reason=None if job.error is None else job.error.reason,
            errors=job.errors,
            crashes=job.crashes,
            cost_nano_usd=job.cost,
        )
        if isinstance(end, RunEnd):
            if end.overdue:
                _REAPED["run"].inc()
            if end.job.state is JobState.QUARANTINED:
                JOBS_QUARANTINED.inc()
            if end.job.started_at is not None:
                JOB_RUN_SECONDS.observe((end.at - end.job.started_at).total_seconds())
        elif end.job.error is not None and end.job.error.reason == JobDeadlineExceeded.reason:
            _REAPED["deadline"].inc()


def _repeated(job: NewJob, found: tuple[Job, bytes] | None) -> Job | ArgosyError:
    if found is None:
        return QueueFull(f"{job.max_queued} jobs wait already, as many as the plan allows")
    known, fingerprint = found
    if fingerprint != job.fingerprint:
        return JobIdReused(f"the job {job.job_id} exists, with another request", param="job_id")
    return known
