"""The engine of jobs around any store, with fakes for all peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chassis.clock import SystemClock
from chassis.errors import ArgosyError
from chassis.ids import new_id
from chassis.tenancy import Principal, PrincipalSigner
from chassis.testing import a_principal
from orchestrator.jobs.cancel import Cancellations
from orchestrator.jobs.claim import Claimed, Claims
from orchestrator.jobs.complete import Runs
from orchestrator.jobs.dispatch import Dispatcher
from orchestrator.jobs.end import RunEnds
from orchestrator.jobs.model import Endpoint, Job, JobKey, RunRef
from orchestrator.jobs.offers.push import OfferPush
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.ports import JobReader, JobStore
from orchestrator.jobs.reap import Reaper
from orchestrator.jobs.rounds import Offer
from orchestrator.jobs.submit import Accepted, JobRequest, Submissions
from orchestrator.jobs.work import JobWork
from orchestrator.routing.model import UnknownFields
from orchestrator.usage.model import Attempt

from services.orchestrator.tests.harness import Harness, reported
from services.orchestrator.tests.jobs_examples import BODY

USED = (Attempt(1, 0, reported(100, 50)),)
ANSWER = b'{"object":"chat.completion"}'


@dataclass
class RecordedSignals:
    """Implements `JobSignals`."""

    states: list[str] = field(default_factory=list)
    cancelled: list[RunRef] = field(default_factory=list)

    def changed(self, job: Job) -> None:
        self.states.append(job.state.value)

    def cancel(self, run: RunRef) -> None:
        self.cancelled.append(run)


class RecordedPushes:
    """Implements `PushSignals`."""

    def __init__(self) -> None:
        self.ended_workers: list[str] = []
        self.offers: list[tuple[str, str, list[Offer]]] = []

    def ended(self, worker_id: str, pool: str) -> None:
        self.ended_workers.append(worker_id)

    def offer(self, worker_id: str, pool: str, offers: Sequence[Offer]) -> None:
        self.offers.append((worker_id, pool, list(offers)))


class JobsHarness:
    """Use cases of jobs; `peers` has the fakes."""

    def __init__(
        self, store: JobStore, reader: JobReader, policy: JobPolicy | None = None, peers: Harness | None = None
    ) -> None:
        self.store, self.policy = store, policy or JobPolicy()
        self.peers = peers or Harness()
        self.signals = RecordedSignals()
        self.push_signals = RecordedPushes()
        self.push = OfferPush(self.push_signals, self.peers.clock.monotonic)
        self.wakes = 0
        signer = PrincipalSigner("a secret of at least thirty-two bytes", "tests", SystemClock())
        work = JobWork.for_jobs(
            self.policy,
            routes=self.peers.completions.routes,
            retrieval=self.peers.retrieval,
            reservations=self.peers.completions.reservations,
            clock=self.peers.clock,
            limits=self.peers.limits,
            unknown_fields=UnknownFields.DROP,
        )
        shared: dict[str, Any] = {"store": store, "policy": self.policy, "signals": self.signals}
        self.ends = RunEnds(store=store, signals=self.signals, on_room=self.wake)
        self.submissions = Submissions(work=work, on_queued=self.wake, **shared)
        self.dispatcher = Dispatcher(store=store, policy=self.policy, on_dispatched=self.push.dispatched)
        self.claims = Claims(
            work=work, ends=self.ends, recorder=self.peers.recorder, tasks=self.peers.tasks, signer=signer, **shared
        )
        self.runs = Runs(
            store=store,
            ends=self.ends,
            reservations=self.peers.completions.reservations,
            policy=self.policy,
            on_heartbeat=self.push.seen,
        )
        self.reaper = Reaper(ends=self.ends, **shared)
        self.cancellations = Cancellations(reader=reader, on_queued=self.wake, **shared)

    def wake(self) -> None:
        self.wakes += 1

    async def submit(self, body: bytes = BODY, *, principal: Principal | None = None, **changes: Any) -> Accepted:
        request = JobRequest(new_id("job_"), Endpoint.CHAT, body)
        return await self.submissions.submit(principal or self.peers.principal, request._replace(**changes))

    async def dispatch(self, slots: int = 10, worker_id: str = "wkr_1") -> list[RunRef]:
        """Run rounds until they dispatch nothing; return the dispatches that are new."""
        await self.runs.heartbeat(worker_id, "default", slots, ())
        dispatched: list[RunRef] = []
        original = self.store.dispatch

        async def recorded(*arguments: Any) -> Any:
            result = await original(*arguments)
            dispatched.extend(one.run for one in result or ())
            return result

        dispatcher = replace(self.dispatcher, store=_Patched(self.store, recorded))
        while await dispatcher.run_round():
            pass
        return dispatched

    async def claim(self, worker_id: str = "wkr_1") -> Claimed:
        """Dispatch and claim the only job that waits."""
        (run,) = await self.dispatch()
        return await self.claims.claim(run, worker_id)

    async def start(self, **changes: Any) -> Claimed:
        """Submit a job and claim it."""
        await self.submit(**changes)
        return await self.claim()

    async def job(self, key: JobKey) -> Job:
        found = await self.store.read(key)
        assert found is not None
        return found[0]

    async def refusal(self, body: bytes = BODY, **changes: Any) -> ArgosyError:
        """Return the error of a submission."""
        try:
            await self.submit(body, **changes)
        except ArgosyError as error:
            return error
        raise AssertionError("the job was accepted")


class _Patched:
    """A store with another `dispatch`."""

    def __init__(self, store: JobStore, dispatch: Any) -> None:
        self._store = store
        self.dispatch = dispatch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def tenant(name: str) -> Principal:
    return replace(a_principal(), tenant_id=name)
