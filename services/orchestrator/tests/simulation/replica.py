"""A replica of the orchestrator: the real use cases of jobs, wired to the simulated stores and peers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chassis.aio import periodic
from chassis.tenancy import PrincipalSigner
from orchestrator.background_tasks import BackgroundTasks
from orchestrator.jobs.cancel import Cancellations
from orchestrator.jobs.claim import Claims
from orchestrator.jobs.complete import Runs
from orchestrator.jobs.dispatch import Dispatcher
from orchestrator.jobs.end import RunEnds
from orchestrator.jobs.model import Job, Lane, RunRef
from orchestrator.jobs.policy import JobPlan, JobPolicy
from orchestrator.jobs.reap import Reaper
from orchestrator.jobs.schedule import DispatchLoop
from orchestrator.jobs.submit import Submissions
from orchestrator.jobs.work import JobWork
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import ALL_TENANTS, RouteCandidate, RouteEntry, Task, UnknownFields
from orchestrator.usage.record import UsageRecorder

from services.orchestrator.tests.fakes import FakeRetrievalClient, FakeRouteStore, route_table
from services.orchestrator.tests.harness import LIMITS
from services.orchestrator.tests.simulation.network import Remote
from services.orchestrator.tests.simulation.process import Process

if TYPE_CHECKING:
    from services.orchestrator.tests.simulation.world import World

MODEL = "two-candidates"
ROUTES = route_table(
    RouteEntry(
        ALL_TENANTS,
        MODEL,
        Task.CHAT,
        (RouteCandidate("local", "small", 1_000), RouteCandidate("dear", "model", 1_000)),
    )
)
POLICY = JobPolicy(plans={"pro": JobPlan(lane=Lane.INTERACTIVE), "batch": JobPlan(lane=Lane.BATCH)})
POLL, REAP = timedelta(seconds=5), timedelta(seconds=5)
SECRET = "a secret of this simulation, and of nothing else"


class Signals:
    """Signals of cancellations reach workers soon, or get lost."""

    def __init__(self, world: World) -> None:
        self._world = world

    def changed(self, job: Job) -> None:
        self._world.check_progress()

    def cancel(self, run: RunRef) -> None:
        self._world.signal_cancel(run)


class Replica:
    def __init__(self, world: World, process: Process) -> None:
        self.process = process
        self._stop = asyncio.Event()
        store: Any = Remote(process, world.store_link, world.observer.execute)
        outbox: Any = Remote(process, world.store_link, world.write_usage)
        metering: Any = Remote(process, world.metering_link, world.call_metering)
        signals = Signals(world)
        self.tasks = BackgroundTasks(1_000, process.report)
        recorder = UsageRecorder(outbox, self.tasks, timedelta(seconds=60))
        reservations = Reservations(metering=metering, recorder=recorder, tasks=self.tasks, limits=LIMITS)
        dispatcher: Any = _Reported(Dispatcher(store=store, policy=POLICY).run_round, process)
        dispatch = DispatchLoop(dispatcher, POLL)
        ends = RunEnds(store=store, signals=signals, on_room=dispatch.wake)
        work = JobWork.for_jobs(
            POLICY,
            routes=RouteCache(FakeRouteStore(ROUTES), process, ROUTES),
            retrieval=FakeRetrievalClient(),
            reservations=reservations,
            clock=process,
            limits=LIMITS,
            unknown_fields=UnknownFields.DROP,
        )
        self.submissions = Submissions(store=store, work=work, policy=POLICY, signals=signals, on_queued=dispatch.wake)
        self.cancellations = Cancellations(
            store=store, reader=store, policy=POLICY, signals=signals, on_queued=dispatch.wake
        )
        self.claims = Claims(
            store=store,
            work=work,
            ends=ends,
            recorder=recorder,
            tasks=self.tasks,
            signer=PrincipalSigner(SECRET, "orchestrator", process),
            policy=POLICY,
            signals=signals,
        )
        self.runs = Runs(store=store, ends=ends, reservations=reservations, policy=POLICY)
        reaper = Reaper(store=store, policy=POLICY, signals=signals, ends=ends)
        process.spawn(dispatch(self._stop))
        process.spawn(
            _until_stopped(periodic(REAP, _Reported(reaper.run_once, process).run_round, "job-reaper"), self._stop)
        )


async def _until_stopped(loop: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    await loop(stop)


class _Reported:
    """Reports what the loops would only log."""

    def __init__(self, run: Callable[[], Awaitable[bool]], process: Process) -> None:
        self._run = run
        self._process = process

    async def run_round(self) -> bool:
        try:
            return await self._run()
        except Exception as error:
            self._process.report(error)
            raise
