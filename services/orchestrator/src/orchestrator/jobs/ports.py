"""The ports of the jobs feature."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from chassis.errors import ArgosyError

from orchestrator.jobs.model import Job, JobFilter, JobKey, NewJob, RunRef
from orchestrator.jobs.rounds import Dispatched, DispatchPlan, Offer, PoolQueues, Room
from orchestrator.jobs.runs import ClaimedJob, Heartbeat, Run, RunEnd, WaitingEnd
from orchestrator.reservations.attempts import AttemptsRecord


class JobStore(Protocol):
    """The state of all jobs, of all tenants.

    Each method is one transaction: all of it, or nothing, is durable when it returns. All times are the store's clock.
    All methods raise `Unavailable`: then it is unknown whether the transaction was committed, and repeating it is safe.

    Methods that take several items decide each on its own, and return a result per item in the order of the items; a
    refusal is returned, not raised. Writes are fenced: they change nothing unless the job still has the epoch, and the
    state, for which they were decided.

    `queued`, `queued_tokens`, `dispatched` and `running` of each (tenant, pool, lane) always equal what counting and
    summing the jobs would give, and are changed with them.
    """

    async def submit(self, jobs: Sequence[NewJob]) -> list[Job | ArgosyError]:
        """Insert jobs as queued and due now.

        A job whose id exists, final or not, is not inserted: with the same fingerprint the job as it stands is
        returned, else `JobIdReused`. `QueueFull` when the tenant would have more than `max_queued` jobs that are
        queued, in all its queues together. Within one call, jobs are counted in their order.
        """

    async def waiting(self) -> list[PoolQueues]:
        """Read what the next dispatches are decided on: pools with live workers and jobs that are due.

        A worker is live for 15 s after a heartbeat. Jobs of a paused tenant, pool or model are left out. The heads of
        a queue are ordered by due time, then id; `more` says whether there are more.

        Of the jobs of a pool that have crashed `SUSPECT_CRASHES` times, one at most is among the heads, the one due for
        longest, and none while another is dispatched or running.
        """

    async def dispatch(self, plan: DispatchPlan, claim_within: timedelta) -> list[Dispatched] | None:
        """Make jobs dispatched: epoch + 1, and due again after `claim_within`. Writes a `JobDispatched` for each.

        Returns None, and changes nothing, when another round of the pool was written since `plan.round` was read: so
        the room that was free is not used twice. Jobs that are not queued with the epoch that was read, or that
        another transaction has locked, are skipped.
        """

    async def returned(self) -> list[DispatchPlan]:
        """Plan the dispatch of jobs that came back once from a worker that died, beside the shares of their tenants.

        One plan for each pool with live workers and such jobs that are due and not paused, those due for longest first.
        With those that are dispatched already they are no more than the slots of the pool.
        """

    async def unclaimed(self, pool: str, room: Room, after: timedelta) -> list[Offer]:
        """Return dispatched jobs that no worker has claimed, for a worker that asks: those that crashed before first.

        Of jobs that crashed, at most `room.slots`, each time anew. Of the others at most `room.free`, dispatched
        as long as `after` ago, and each to one worker in that time.
        """

    async def claim(self, claims: Sequence[tuple[RunRef, str]], lease: timedelta) -> list[ClaimedJob | ArgosyError]:
        """Give dispatched jobs to workers (dispatch, worker id): running, epoch + 1, crashes + 1, due after `lease`.

        The claim counts as a crash until the run ends otherwise. `JobNotClaimable` unless the job is dispatched with
        exactly this epoch.
        """

    async def save_runs(
        self, runs: Sequence[tuple[RunRef, AttemptsRecord]], lease: timedelta
    ) -> list[ArgosyError | None]:
        """Store what the settlement of running jobs needs, and extend their leases. `JobLeaseLost` when not running."""

    async def heartbeat(
        self, worker_id: str, pool: str, slots: int, runs: Sequence[RunRef], lease: timedelta
    ) -> Heartbeat:
        """Record that a worker lives, and extend the leases of its runs.

        `lost` are those that do not run with this epoch any more; `cancelled` those whose cancellation was asked for:
        their leases are extended, too.
        """

    async def running(self, runs: Sequence[RunRef]) -> list[Run | None]:
        """Read running jobs; None for one that does not run with this epoch."""

    async def overdue_runs(self, limit: int) -> list[Run]:
        """Read running jobs whose leases have run out, those out for longest first."""

    async def end_runs(self, ends: Sequence[RunEnd]) -> list[Job | ArgosyError]:
        """End runs: write the usage events and the jobs as they are to be. Returns those jobs.

        `JobLeaseLost` when the job does not run with this epoch, when a cancellation was asked for since, or when the
        end is for overdue runs and the lease was extended: read the run again, and decide again.

        A final job moves to the final ones, and exactly one `JobFinished` is written. A queued one is due after its
        delay; without one it takes the place of its acceptance, before the jobs of its tenant that came later. A
        quarantined one waits for an operator. Run record and request id are forgotten.
        """

    async def end_waiting(self, ends: Sequence[WaitingEnd]) -> list[Job | ArgosyError]:
        """Finish jobs that no worker has, one `JobFinished` each. `JobLeaseLost` when the fence refuses."""

    async def read(self, key: JobKey) -> tuple[Job, datetime] | None:
        """Read a job, final or not, without its result, and the store's clock; None when there is none."""

    async def request_cancel(self, run: RunRef) -> Job | None:
        """Note that a running job is to be cancelled. Safe to repeat. None when it does not run with this epoch."""

    async def requeue_lost_dispatches(self, limit: int) -> list[Job]:
        """Queue jobs again that were dispatched and that no worker has claimed in time.

        They take the place of their acceptance, and their counters stay.
        """

    async def past_deadline(self, limit: int) -> tuple[list[Job], datetime]:
        """Read queued and dispatched jobs whose deadline has passed, and the store's clock."""

    async def retry_quarantined(self, key: JobKey, deadline: timedelta) -> Job | None:
        """Queue a quarantined job again: counters 0, due now, a new deadline. None when it is not quarantined."""

    async def running_requests(self, requests: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of the requests (tenant, request id) that are runs of running jobs."""

    async def keep_partitions(self, days_ahead: int) -> tuple[int, int]:
        """Make the partitions of the next days, drop expired ones, forget dead workers; return how many of each."""


class JobReader(Protocol):
    """Jobs as their tenants read them. All methods raise `Unavailable`."""

    async def get(self, key: JobKey) -> Job | None:
        """Return a job with its result; None when there is none."""

    async def list_jobs(self, tenant_id: str, wanted: JobFilter) -> list[Job]:
        """Return jobs without results, by id from the newest, one more than the limit if there are more."""

    async def list_finished(self, tenant_id: str, batch_id: str, after: str, limit: int) -> list[Job]:
        """Return final jobs of a batch with their results, by id from the oldest, only ids above `after`.

        Fewer than `limit` when their results are large, and at least one if there are any.
        """

    async def is_running(self, tenant_id: str, batch_id: str) -> bool:
        """Whether a job of a batch is neither final nor in quarantine. Its cost does not grow with the batch."""

    async def list_unfinished(self, tenant_id: str, batch_id: str, after: str, limit: int) -> list[Job]:
        """Return jobs of a batch that are not final, by id from the oldest, only ids above `after`."""

    async def list_all(self, wanted: JobFilter, tenant_id: str) -> list[Job]:
        """Return unfinished jobs of all tenants, or of one, without results: as `list_jobs`, batches included."""


class JobSignals(Protocol):
    """Tells watchers and workers of what has happened, at once. It may lose signals, and never raises."""

    def changed(self, job: Job) -> None:
        """The state of a job has changed."""

    def cancel(self, run: RunRef) -> None:
        """A worker is to stop a run."""


class NoSignals:
    """Does nothing: watchers poll, and heartbeats tell workers."""

    def changed(self, job: Job) -> None:
        pass

    def cancel(self, run: RunRef) -> None:
        pass
