"""Claims jobs, runs them, and reports what became of them; nothing that one job does affects another."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError, Internal, Kind
from values.usage import UNKNOWN_USAGE, ExposureCause

from inference_worker.jobs.model import (
    TRANSIENT,
    AnswerNotStored,
    ClaimedJob,
    Dispatch,
    LeaseLost,
    NotClaimable,
    NoWork,
    RunEnd,
    RunRef,
    RunResult,
)
from inference_worker.jobs.ports import Deltas, JobObserver, Orchestrator
from inference_worker.jobs.run import JobRun, NewJobRun
from inference_worker.plans.model import Attempt, AttemptOutcome, Draining, Stopped

MAX_RECENT_CANCELS = 1000
MAX_UNANSWERED = 1000
MAX_REPORT_SECONDS = 5.0
"""Between two tries to report the end of a run."""

STORE_FAILURES = frozenset({Kind.UNAVAILABLE, Kind.TIMED_OUT})
REFUSED_FOR_GOOD = frozenset({Kind.INVALID, Kind.TOO_LARGE})
MAX_REFUSALS = 5
"""Of the report of one run, by errors that are not transient. After it the run is given up, and its lease runs out."""
TOO_LARGE = "JOB_RESULT_TOO_LARGE"

LARGE_ANSWER_BYTES = 1024 * 1024
MAX_STORE_FAILURES = 3
"""Of a large answer that is not stored in time although heartbeats are: the store works, the answer is too large."""


class ActiveRun:
    """A claimed job until its end is reported."""

    __slots__ = ("claimed_at", "job", "lease_until", "lost", "reporting", "run")

    def __init__(self, job: ClaimedJob, run: JobRun, claimed_at: float, now: float) -> None:
        self.job = job
        self.run = run
        self.claimed_at = claimed_at
        lease = job.lease.total_seconds()
        # A claim that searches and reserves may take as long as the lease, which is extended at its end.
        self.lease_until = max(claimed_at + lease, now + lease / 2)
        """By the event loop's clock, from before the heartbeat that extended it: no later than the database's."""
        self.lost = False
        self.reporting = False
        """The provider is not called any more: a cancellation is too late, and only the report's answer counts."""

    @property
    def ref(self) -> RunRef:
        return self.job.ref

    def stop(self, reason: Stopped) -> None:
        if not self.reporting:
            self.run.stop(reason)

    def lose(self) -> None:
        """Stop, and report nothing: the orchestrator would refuse it."""
        if not self.reporting:
            self.lost = True
            self.run.stop(Stopped("another run has the job"))


class _Turn:
    """Claims of one dispatch go one after the other."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class JobWorker:
    """The runs of this process."""

    def __init__(
        self, orchestrator: Orchestrator, new_run: NewJobRun, deltas: Deltas, observer: JobObserver, slots: int
    ) -> None:
        self._orchestrator = orchestrator
        self._new_run = new_run
        self._deltas = deltas
        self._observer = observer
        self._slots = slots
        self._cancelled: OrderedDict[RunRef, None] = OrderedDict()
        self._claims: dict[RunRef, _Turn] = {}
        self._unanswered: OrderedDict[RunRef, None] = OrderedDict()
        """Dispatches whose claim has had no answer: a run may be this worker's, and it has no plan for it."""
        self._returning = False
        self._exiting = asyncio.Event()
        self._draining = False
        self.on_unreported: Callable[[], None] = lambda: None
        """Called after a try to report: the lease of the run may not have been extended meanwhile."""
        self.runs: dict[RunRef, ActiveRun] = {}

    @property
    def slots(self) -> int:
        """What is advertised to the orchestrator."""
        return 0 if self._draining else self._slots

    async def claim(self, dispatch: Dispatch) -> ActiveRun | None:
        """Claim a job, to `execute`; None when there is nothing to run. Raises an `ArgosyError`: try again."""
        # A dispatch may come twice, by its record and as an offer.
        turn = self._claims.setdefault(dispatch.ref, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                return await self._claim(dispatch)
        finally:
            turn.users -= 1
            if not turn.users:
                del self._claims[dispatch.ref]

    async def _claim(self, dispatch: Dispatch) -> ActiveRun | None:
        loop = asyncio.get_running_loop()
        claimed_at = loop.time()
        if replace(dispatch.ref, epoch=dispatch.ref.epoch + 1) in self.runs:
            self._observer.not_claimable(dispatch)
            return None
        unanswered = dispatch.ref in self._unanswered
        self._unanswered[dispatch.ref] = None
        if len(self._unanswered) > MAX_UNANSWERED:
            self._unanswered.popitem(last=False)
        try:
            job = await self._orchestrator.claim(dispatch.ref, unanswered_before=unanswered)
        except NotClaimable:
            self._unanswered.pop(dispatch.ref, None)
            self._observer.not_claimable(dispatch)
            return None
        self._unanswered.pop(dispatch.ref, None)
        self._observer.claimed(dispatch, job, loop.time() - claimed_at)
        if isinstance(job.work, NoWork):
            return None
        active = ActiveRun(job, self._new_run(job), claimed_at, loop.time())
        self.runs[active.ref] = active
        return active

    def cancel(self, ref: RunRef) -> None:
        """Stop a run whose client does not want it any more. A run that is being claimed is stopped when it begins."""
        self._cancelled[ref] = None
        if len(self._cancelled) > MAX_RECENT_CANCELS:
            self._cancelled.popitem(last=False)
        if (active := self.runs.get(ref)) is not None:
            active.stop(_cancelled())

    def begin_drain(self, return_after: timedelta, exit_after: timedelta) -> None:
        """Advertise no slots; hand back what runs after `return_after`, and give up reports after `exit_after`."""
        self._draining = True
        loop = asyncio.get_running_loop()
        loop.call_later(return_after.total_seconds(), self._return_all)
        loop.call_later(exit_after.total_seconds(), self._exiting.set)

    def _return_all(self) -> None:
        self._returning = True
        for active in self.runs.values():
            active.stop(Draining("the worker is shutting down"))

    async def execute(self, active: ActiveRun) -> None:
        """Run a claimed job, and report its end."""
        if active.ref in self._cancelled:
            active.stop(_cancelled())
        elif self._returning:
            active.stop(Draining("the worker is shutting down"))
        end, result = RunEnd.UNREPORTED, None
        try:
            result = await self._run(active)
            active.reporting = True
            self._deltas.end(active.ref)
            end = RunEnd.LOST if active.lost else await self._report(active, result)
        finally:
            del self.runs[active.ref]
            self._cancelled.pop(active.ref, None)
            self._observer.ended(active.ref, end, result, asyncio.get_running_loop().time() - active.claimed_at)

    async def _run(self, active: ActiveRun) -> RunResult:
        started = asyncio.get_running_loop().time()
        try:
            return await active.run.run()
        except Exception as error:  # noqa: BLE001 - a bug that one job meets must not end the worker
            self._observer.run_failed(active.ref, error)
            spent = timedelta(seconds=asyncio.get_running_loop().time() - started)
            # Whether a provider was called is not known any more.
            attempt = Attempt(1, 0, AttemptOutcome.INTERRUPTED, UNKNOWN_USAGE, None, spent, ExposureCause.FLEET)
            return RunResult((attempt,), error=Internal("the worker could not run the job"))

    async def _report(self, active: ActiveRun, result: RunResult) -> RunEnd:
        """Report until the orchestrator has answered, or until the process has to exit."""
        returns, refusals, unstored = isinstance(result.error, Draining), 0, 0
        backoff = Backoff(min_seconds=0.2, max_seconds=MAX_REPORT_SECONDS)
        while True:
            lease_until = active.lease_until
            try:
                if returns:
                    await self._orchestrator.give_back(active.ref, result.attempts)
                    return RunEnd.RETURNED
                await self._orchestrator.complete(active.ref, result)
                return _end_of(result)
            except LeaseLost:
                return RunEnd.LOST
            except ArgosyError as error:
                self._observer.retried(active.ref, "return" if returns else "complete", error)
                self.on_unreported()
                refusals += error.kind not in TRANSIENT
                # A heartbeat was answered meanwhile, so it took seconds, and not for want of the store.
                unstored += error.kind in STORE_FAILURES and active.lease_until > lease_until
                if unstored >= MAX_STORE_FAILURES and result.answer_bytes > LARGE_ANSWER_BYTES:
                    result, unstored = _without_answer(result), 0
                    continue
                if result.error is None and (error.kind in REFUSED_FOR_GOOD or refusals >= MAX_REFUSALS):
                    # The answer itself is refused; that it cannot be had is an answer, too.
                    refusal = error if error.reason == TOO_LARGE else Internal("the answer could not be stored")
                    result, refusals = RunResult(result.attempts, error=refusal), 0
                    continue
                if refusals >= MAX_REFUSALS:
                    return RunEnd.UNREPORTED
            if await self._wait_or_exit(backoff.next()):
                return RunEnd.UNREPORTED

    async def _wait_or_exit(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._exiting.wait()
        except TimeoutError:
            return self._exiting.is_set()
        return True


def _cancelled() -> Stopped:
    return Stopped("the job was cancelled")


def _without_answer(result: RunResult) -> RunResult:
    mebibytes = result.answer_bytes / 2**20
    message = f"the answer of {mebibytes:.1f} MiB could not be stored in time; it is billed, ask for less at once"
    return RunResult(result.attempts, error=AnswerNotStored(message))


def _end_of(result: RunResult) -> RunEnd:
    if result.error is None:
        return RunEnd.SUCCEEDED
    return RunEnd.CANCELLED if isinstance(result.error, Stopped) else RunEnd.FAILED
