"""Fakes of the ports of jobs, and the jobs that tests run."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from chassis.clock import SystemClock
from chassis.errors import ArgosyError
from inference_worker.embeddings.run import EmbedRun
from inference_worker.jobs.model import (
    ClaimedJob,
    Dispatch,
    Embedding,
    HeartbeatAnswer,
    Lane,
    LeaseLost,
    NotClaimable,
    Offer,
    RunEnd,
    RunRef,
    RunResult,
    Work,
)
from inference_worker.jobs.run import JobRuns
from inference_worker.jobs.worker import JobWorker
from inference_worker.plans.model import Attempt, AttemptStarting
from inference_worker.plans.run import PlanRun
from inference_worker.token_counting.tiktoken import load_token_bytes
from worker_fakes import FakeEmbedder, FakeObserver, FakeProvider, a_candidate, an_upstream

LEASE = timedelta(seconds=15)


def a_dispatch(job_id: str = "job_1", epoch: int = 1, lane: Lane = Lane.STANDARD) -> Dispatch:
    return Dispatch(RunRef("ten_a", job_id, epoch), lane, None)


def an_embedding(*models: str, seconds: float = 10) -> Embedding:
    return Embedding(tuple(a_candidate(model) for model in models), ("a b", "c"), timedelta(seconds=seconds), None)


@dataclass
class FakeOrchestrator:
    """The owner of jobs in memory: epochs are fenced as the real one fences them. `failures` come first."""

    work: dict[str, Work] = field(default_factory=dict)
    """By job: what a claim of a dispatched job answers."""
    lease: timedelta = LEASE
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    """By method."""
    running: dict[str, RunRef] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    completed: dict[str, RunResult] = field(default_factory=dict)
    returned: dict[str, tuple[Attempt, ...]] = field(default_factory=dict)
    started: list[AttemptStarting] = field(default_factory=list)
    beats: list[tuple[int, tuple[RunRef, ...]]] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)
    """Slots and free slots of the calls that asked for offers."""
    unanswered: list[bool] = field(default_factory=list)
    """What each claim said of those before it."""
    calls: list[str] = field(default_factory=list)
    disconnect: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends the connection that is held; the next one is held again."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def claim(self, dispatch: RunRef, *, unanswered_before: bool = False) -> ClaimedJob:
        self.unanswered.append(unanswered_before)
        await self._call("claim")
        if dispatch.job_id not in self.work or dispatch.job_id in self.running:
            raise NotClaimable("not dispatched")
        run = RunRef(dispatch.tenant_id, dispatch.job_id, dispatch.epoch + 1)
        self.running[dispatch.job_id] = run
        request_id = f"{run.job_id}.{run.epoch}"
        return ClaimedJob(run, self.lease, request_id, self.work.pop(dispatch.job_id))

    async def find_unclaimed(self, slots: int, free_slots: int) -> Sequence[Offer]:
        await self._call("find_unclaimed")
        self.asked.append((slots, free_slots))
        return self.offers

    async def stay_connected(self, on_connected: Callable[[], None]) -> None:
        await self._call("stay_connected")
        on_connected()
        await self.disconnect.wait()
        self.disconnect.clear()

    async def start_attempt(self, run: RunRef, attempt: AttemptStarting) -> None:
        await self._call("start_attempt")
        self._fence(run)
        self.started.append(attempt)

    async def heartbeat(self, slots: int, runs: Sequence[RunRef]) -> HeartbeatAnswer:
        await self._call("heartbeat")
        self.beats.append((slots, tuple(runs)))
        lost = frozenset(run for run in runs if self.running.get(run.job_id) != run)
        return HeartbeatAnswer(lost, frozenset(run for run in runs if run.job_id in self.cancelled))

    async def complete(self, run: RunRef, result: RunResult) -> None:
        await self._call("complete")
        self._fence(run)
        del self.running[run.job_id]
        self.completed[run.job_id] = result

    async def give_back(self, run: RunRef, attempts: Sequence[Attempt]) -> None:
        await self._call("give_back")
        self._fence(run)
        del self.running[run.job_id]
        self.returned[run.job_id] = tuple(attempts)

    def take_away(self, job_id: str) -> None:
        """Let another worker have the job."""
        run = self.running[job_id]
        self.running[job_id] = RunRef(run.tenant_id, run.job_id, run.epoch + 2)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(condition)

    def _fence(self, run: RunRef) -> None:
        if self.running.get(run.job_id) != run:
            raise LeaseLost("the job has another epoch")

    async def _call(self, method: str) -> None:
        await asyncio.sleep(0)
        self.calls.append(method)
        async with self.changed:
            self.changed.notify_all()
        if pending := self.failures.get(method):
            raise pending.pop(0)


@dataclass
class FakeDeltas:
    payloads: dict[RunRef, list[bytes]] = field(default_factory=dict)
    ended: list[RunRef] = field(default_factory=list)
    broken: str = ""
    """A job for which it raises, which no real one does: a bug."""

    def append(self, run: RunRef, payloads: Sequence[bytes]) -> None:
        if run.job_id == self.broken:
            raise AssertionError("a bug")
        self.payloads.setdefault(run, []).extend(payloads)

    def end(self, run: RunRef) -> None:
        self.ended.append(run)


@dataclass
class FakeJobObserver:
    ends: dict[str, RunEnd] = field(default_factory=dict)
    claims: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    retries: list[tuple[str, str]] = field(default_factory=list)
    bugs: list[Exception] = field(default_factory=list)

    def claimed(self, dispatch: Dispatch, claimed: ClaimedJob, seconds: float) -> None:
        self.claims.append(claimed.ref.job_id)

    def not_claimable(self, dispatch: Dispatch) -> None:
        self.refused.append(dispatch.ref.job_id)

    def retried(self, run: RunRef, step: str, error: ArgosyError) -> None:
        self.retries.append((step, error.reason))

    def run_failed(self, run: RunRef, error: Exception) -> None:
        self.bugs.append(error)

    def ended(self, run: RunRef, end: RunEnd, result: RunResult | None, seconds: float) -> None:
        self.ends[run.job_id] = end


class FakedWorker:
    """A worker of jobs over fakes."""

    def __init__(self, slots: int = 4, lease: timedelta = LEASE) -> None:
        self.provider, self.embedder = FakeProvider(), FakeEmbedder()
        self.orchestrator, self.deltas, self.observer = FakeOrchestrator(lease=lease), FakeDeltas(), FakeJobObserver()
        upstreams = {"fake": an_upstream(self.provider, self.embedder)}
        clock, attempts = SystemClock(), FakeObserver()
        self.runs = JobRuns(
            self.orchestrator,
            self.deltas,
            partial(PlanRun, upstreams=upstreams, clock=clock, observer=attempts),
            partial(EmbedRun, upstreams=upstreams, clock=clock, observer=attempts, load_token_bytes=load_token_bytes),
        )
        self.worker = JobWorker(self.orchestrator, self.runs, self.deltas, self.observer, slots)

    async def start(self, work: Work, job_id: str = "job_1") -> asyncio.Task[None]:
        """Claim a job and begin its run."""
        self.orchestrator.work[job_id] = work
        active = await self.worker.claim(a_dispatch(job_id))
        assert active is not None
        return asyncio.create_task(self.worker.execute(active))

    async def do(self, work: Work, job_id: str = "job_1") -> RunEnd:
        """Claim a job, run it, and report its end."""
        await (await self.start(work, job_id))
        return self.observer.ends[job_id]

    def error(self, job_id: str = "job_1") -> ArgosyError:
        """Return the error with which a job was completed."""
        error = self.orchestrator.completed[job_id].error
        assert error is not None
        return error

    async def until_called(self, opened: int = 1) -> None:
        """Wait until the provider has been called."""
        async with asyncio.timeout(30):
            while len(self.provider.opened) + len(self.embedder.embedded) < opened:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
