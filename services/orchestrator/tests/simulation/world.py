"""The fleet of one simulation: its processes, stores and peers, and what the test sees of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from orchestrator.jobs.model import Job, JobKey, JobState, RunRef
from orchestrator.usage.model import RequestUsage

from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.in_memory_jobs.tables import DispatchedEvent, Event
from services.orchestrator.tests.simulation.kafka import Topic
from services.orchestrator.tests.simulation.metering import SimulatedMetering
from services.orchestrator.tests.simulation.network import Link, call_process
from services.orchestrator.tests.simulation.observer import Observer
from services.orchestrator.tests.simulation.process import START, Process
from services.orchestrator.tests.simulation.provider import Provider
from services.orchestrator.tests.simulation.replica import Replica
from services.orchestrator.tests.simulation.scenario import Scenario
from services.orchestrator.tests.simulation.worker import CANCELLED, SimulatedWorker

RESTART_SECONDS = 3.0


class World:
    """Made inside of the event loop of its simulation."""

    def __init__(self, rng: random.Random, scenario: Scenario) -> None:
        self.rng = rng
        self.scenario = scenario
        self.breaches: list[str] = []
        self.trace: list[tuple[float, str]] = []
        self._loop = asyncio.get_running_loop()
        self.store = InMemoryJobStore(self.now)
        self.observer = Observer(self.store, self.breach, self._trace_change, self._relay)
        self.store_link = Link(rng, scenario.loss, 0.002)
        self.metering_link = Link(rng, scenario.loss, 0.002)
        self.rpc_link = Link(rng, scenario.loss, 0.001)
        self.metering = SimulatedMetering(self.breach)
        self.provider = Provider(rng, {job.job_id: job.behaviour for job in scenario.jobs})
        self.topic = Topic(rng, scenario.record_loss, scenario.repetition, scenario.delay, self.pump)
        self.client = Process("client", timedelta(0), self.breach, rng)
        self.accepted: set[JobKey] = set()
        self.poisoned: dict[str, int] = {}
        """Workers that each job has killed."""
        self.replica_died = False
        self.changed = asyncio.Event()
        """Set when a job may have ended."""
        self._usage_ids: set[str] = set()
        self._numbers: dict[str, int] = {}
        self.processes: list[Process] = [self.client]
        """All that ever were: their tasks are kept until the end."""
        self._ended: list[object] = []
        self.replicas = [self._new_replica() for _ in range(scenario.replicas)]
        self.workers = [self._new_worker() for _ in range(scenario.workers)]

    def now(self) -> datetime:
        """The clock of the database."""
        return START + timedelta(seconds=self._loop.time())

    def breach(self, text: str) -> None:
        """Note a broken invariant."""
        self.breaches.append(f"{self._loop.time():.3f} s: {text}")
        self.log(f"BROKEN: {text}")
        self.changed.set()

    def log(self, text: str) -> None:
        self.trace.append((self._loop.time(), text))

    async def call(self, caller: Process, invoke: Callable[[Replica], Coroutine[Any, Any, Any]]) -> Any:
        """Call any replica that lives."""

        def find() -> tuple[Process, Callable[[], Coroutine[Any, Any, Any]]] | None:
            living = [replica for replica in self.replicas if replica.process.alive]
            if not living:
                return None
            replica = self.rng.choice(living)
            return replica.process, lambda: invoke(replica)

        return await call_process(caller, find, self.rpc_link)

    async def write_usage(self, process: Process, method: str, usage: RequestUsage) -> None:
        """The outbox of usage events."""
        if usage.event_id not in self._usage_ids:
            self._usage_ids.add(usage.event_id)
            self.store.outbox.append(usage)
            self.observer.publish()

    async def call_metering(self, process: Process, method: str, *args: Any) -> Any:
        return await getattr(self.metering, method)(*args)

    def pump(self) -> None:
        """Give records to workers with free slots."""
        while True:
            free = [worker for worker in self.workers if worker.has_room]
            record = self.topic.take() if free else None
            if record is None:
                return
            self.rng.choice(free).take(record)

    def check_commit(self, record: RunRef) -> None:
        """An offset is committed after the claim: else the record is ended with the worker."""
        row = self.store.rows.get(record.key)
        if row is not None and (row.job.state, row.job.epoch) == (JobState.DISPATCHED, record.epoch):
            self.breach(f"the record of {record.job_id} was committed before its claim")

    def signal_cancel(self, run: RunRef) -> None:
        if self.rng.random() < 0.3:
            return
        for worker in self.workers:
            if run in worker.runs and not worker.process.frozen:
                self._loop.call_later(self.rng.uniform(0, 0.5), worker.runs[run].stop, CANCELLED)

    def check_progress(self) -> None:
        self.changed.set()

    def kill(self, process_of: SimulatedWorker | Replica, why: str) -> None:
        """Kill a process; its supervisor starts another one."""
        process = process_of.process
        if not process.alive:
            return
        self.log(f"{process.name} dies: {why}")
        if isinstance(process_of, SimulatedWorker) and why == "poison":
            for run in process_of.runs:
                self.poisoned[run.job_id] = self.poisoned.get(run.job_id, 0) + 1
        if isinstance(process_of, Replica):
            self.replica_died = True
        process.kill()
        self.replace_later(process_of)

    def replace_later(self, ended: SimulatedWorker | Replica) -> None:
        self._loop.call_later(self.rng.uniform(0.5, RESTART_SECONDS), self._replace, ended)

    def _replace(self, ended: SimulatedWorker | Replica) -> None:
        self._ended.append(ended)
        if isinstance(ended, Replica):
            self.replicas = [replica for replica in self.replicas if replica is not ended]
            self.replicas.append(self._new_replica())
        else:
            self.workers = [worker for worker in self.workers if worker is not ended]
            self.workers.append(self._new_worker())
            self.pump()

    def _new_replica(self) -> Replica:
        return Replica(self, self._new_process("orchestrator"))

    def _new_worker(self) -> SimulatedWorker:
        return SimulatedWorker(self, self._new_process("worker"), self.rng.randrange(1, 4))

    def _new_process(self, kind: str) -> Process:
        number = self._numbers[kind] = self._numbers.get(kind, 0) + 1
        skew = timedelta(seconds=self.rng.uniform(-600, 600) if self.scenario.skewed else 0)
        process = Process(f"{kind}-{number}", skew, self.breach, self.rng, self.scenario.stalls)
        self.processes.append(process)
        return process

    def _trace_change(self, process: str, method: str, old: Job | None, new: Job) -> None:
        before = "new" if old is None else f"{old.state}.{old.epoch}"
        reason = f" ({new.state_reason})" if new.state_reason else ""
        cancel = ", cancel requested" if new.cancel_requested else ""
        counts = f"errors {new.errors}, crashes {new.crashes}{cancel}"
        self.log(f"{process}: {method} {new.job_id}: {before} -> {new.state}.{new.epoch}{reason}, {counts}")
        self.changed.set()

    def _relay(self, event: Event) -> None:
        """Publish an event of the outbox, at least once."""
        times = 2 if self.rng.random() < self.scenario.repetition else 1
        for _ in range(times):
            delay = self.rng.expovariate(100)
            if isinstance(event, DispatchedEvent):
                self._loop.call_later(delay, self.topic.publish, event.run)
            elif isinstance(event, RequestUsage):
                self._loop.call_later(delay * 10, self.metering.settle, event)
