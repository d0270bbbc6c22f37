"""Gives a dispatched job to a worker: durably claimed, then prepared as a request that is answered at once."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from chassis.errors import ArgosyError
from chassis.tenancy import Caller, PrincipalSigner, as_caller

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.jobs.end import RunEnds, raise_error
from orchestrator.jobs.errors import JobLeaseLost, JobNotClaimable
from orchestrator.jobs.model import Endpoint, RunRef
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.ports import JobSignals, JobStore
from orchestrator.jobs.runs import ClaimedJob, Run, RunEnd
from orchestrator.jobs.settle import Draw, returned, unprepared
from orchestrator.jobs.work import JobWork, PreparedWork
from orchestrator.usage.record import UsageRecorder


class Claimed(NamedTuple):
    """A claimed job. Without work there is nothing to run: the job has ended, or waits again."""

    run: RunRef
    work: PreparedWork | None
    reason: str = ""
    """Why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims jobs for workers."""

    store: JobStore
    work: JobWork
    ends: RunEnds
    recorder: UsageRecorder
    tasks: BackgroundTasks
    signer: PrincipalSigner
    policy: JobPolicy
    signals: JobSignals

    async def claim(self, dispatch: RunRef, worker_id: str, *, unanswered_before: bool = False) -> Claimed:
        """Claim a dispatch, and prepare its run. Raises `JobNotClaimable`, `Unavailable`.

        A worker that leaves meanwhile does not get the plan: its job is queued again, without a crash. So is the job of
        an earlier claim whose answer the same worker did not get.
        """
        try:
            return await self._claim(dispatch, worker_id)
        except JobNotClaimable:
            if unanswered_before:
                await self._hand_back_unknown(dispatch._replace(epoch=dispatch.epoch + 1), worker_id)
            raise

    async def _hand_back_unknown(self, run: RunRef, worker_id: str) -> None:
        """End a run of which its worker does not know: it makes no provider call, so nothing is lost."""
        (found,) = await self.store.running([run])
        if found is not None and found.job.worker_id == worker_id:
            await self._give_back(run)

    async def _claim(self, dispatch: RunRef, worker_id: str) -> Claimed:
        request = (dispatch.tenant_id, dispatch._replace(epoch=dispatch.epoch + 1).request_id)
        with self.tasks.slot(request):
            (claimed,) = await self.store.claim([(dispatch, worker_id)], self.policy.lease)
            raise_error(claimed)
            assert isinstance(claimed, ClaimedJob)  # noqa: S101 - narrows the type
            # No await between the claim and this task, which ends the run whatever happens.
            preparation = self.tasks.start(self._prepare(claimed), request)
        self.signals.changed(claimed.job)
        try:
            return await asyncio.shield(preparation)
        except asyncio.CancelledError:
            self.tasks.start(self._take_back(claimed.run, preparation), request)
            raise

    async def _prepare(self, claimed: ClaimedJob) -> Claimed:
        job, run = claimed.job, claimed.run
        remaining = job.deadline_at - claimed.now
        # Signed anew: the token of the client that submitted it has expired long ago.
        with as_caller(Caller(claimed.principal, self.signer.sign(claimed.principal), run.request_id)):
            try:
                work = await self.work.prepare(
                    claimed.principal,
                    run.request_id,
                    Endpoint(job.endpoint),
                    claimed.body,
                    _at_least(remaining),
                    of_batch=job.batch_id is not None,
                )
            except ArgosyError as error:
                return await self._unprepared(run, error)
        try:
            (refusal,) = await self.store.save_runs([(run, work.record)], self.policy.lease)
        except BaseException:
            await self._give_back(run)
            raise
        if refusal is not None:
            # The run was taken for dead. Its settlement may have come before the reservation.
            await self.recorder.record(claimed.principal, run.request_id, ())
            raise refusal
        return Claimed(run, work)

    async def _unprepared(self, run: RunRef, error: ArgosyError) -> Claimed:
        async def decide(read: Run, draw: Draw) -> RunEnd:
            return unprepared(read, error, self.policy, draw)

        with suppress(JobLeaseLost):
            await self.ends.end(run, decide)
        return Claimed(run, None, error.reason)

    async def _take_back(self, run: RunRef, preparation: asyncio.Task[Claimed]) -> None:
        """Queue a job again whose worker has left while it was prepared."""
        try:
            claimed = await preparation
        except ArgosyError:
            return
        if claimed.work is not None:
            await self._give_back(run)

    async def _give_back(self, run: RunRef) -> None:
        async def decide(read: Run, draw: Draw) -> RunEnd:
            return returned(read, (), draw)

        with suppress(ArgosyError):
            await self.ends.end(run, decide)


def _at_least(remaining: timedelta) -> timedelta:
    """A timeout of zero would stand for the default."""
    return max(remaining, timedelta(milliseconds=1))
