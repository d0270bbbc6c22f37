"""Takes over what nothing else ends: runs of dead workers, dispatches that no worker claimed, jobs past deadline."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.jobs.end import RunEnds, new_draw
from orchestrator.jobs.model import Job, JobState
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.ports import JobSignals, JobStore
from orchestrator.jobs.settle import died, ended_waiting, late

BATCH_SIZE = 100
LOST_BATCH_SIZE = 500
MAX_DISPATCH_TRIES = 5
"""Each of them lost to a round of another replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaper:
    """Every replica may run one: of two that reap the same job, one is refused."""

    store: JobStore
    policy: JobPolicy
    signals: JobSignals
    ends: RunEnds

    async def run_once(self) -> bool:
        """Reap one batch of each kind; return whether there may be more."""
        runs = await self._dead_runs()
        lost = await self.store.requeue_lost_dispatches(LOST_BATCH_SIZE)
        await self._dispatch_returned()
        overdue = await self._past_deadline()
        if runs or lost:
            self.ends.on_room()
        return BATCH_SIZE in {runs, overdue} or len(lost) == LOST_BATCH_SIZE

    async def _dead_runs(self) -> int:
        runs = await self.store.overdue_runs(BATCH_SIZE)
        if runs:
            self._tell(await self.store.end_runs([died(run, self.policy, new_draw()) for run in runs]))
        return len(runs)

    async def _dispatch_returned(self) -> None:
        """Dispatch again at once what came back: it had its turn already, and waits behind no other job."""
        for _ in range(MAX_DISPATCH_TRIES):
            plans = await self.store.returned()
            if all([await self.store.dispatch(plan, self.policy.claim_within) is not None for plan in plans]):
                return

    async def _past_deadline(self) -> int:
        jobs, now = await self.store.past_deadline(BATCH_SIZE)
        ends = [ended_waiting(job, JobState.FAILED, now, late(job)) for job in jobs]
        if ends:
            self._tell(await self.store.end_waiting(ends))
        return len(jobs)

    def _tell(self, results: Sequence[object]) -> None:
        for result in results:
            if isinstance(result, Job):
                self.signals.changed(result)
