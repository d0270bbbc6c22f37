"""A worker with the duties of the real one: claim, commit, run, beat, complete, hand back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from chassis.errors import ArgosyError, Kind, RemoteError
from orchestrator.chat.model import Stopped
from orchestrator.jobs.claim import Claimed
from orchestrator.jobs.errors import JobLeaseLost, JobNotClaimable
from orchestrator.jobs.model import RunRef
from orchestrator.jobs.rounds import Room
from orchestrator.usage.model import Attempt
from orchestrator.workers.model import AttemptStarting
from values.usage import TokenUsage, UsageSource

from services.orchestrator.tests.simulation.observer import answer_of
from services.orchestrator.tests.simulation.process import Process
from services.orchestrator.tests.simulation.provider import Poisoned, ProviderCall

if TYPE_CHECKING:
    from services.orchestrator.tests.simulation.replica import Replica
    from services.orchestrator.tests.simulation.world import World

HEARTBEAT_SECONDS = 5.0
ASK_SECONDS = 5.0
"""Seldom: most jobs are to come by their records."""
GRACE_SECONDS = 10.0
PERMISSION_SECONDS = 10.0
MAX_CLAIM_TRIES = 3
LOST, CANCELLED, DRAINED = "lost", "cancelled", "drained"
TRANSIENT = {Kind.UNAVAILABLE, Kind.TIMED_OUT}


class RunningJob:
    """A run on this worker."""

    def __init__(self, run: RunRef) -> None:
        self.run = run
        self.stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why it was stopped."""

    def stop(self, why: str) -> None:
        if not self.stopped.done():
            self.stopped.set_result(why)


class SimulatedWorker:
    def __init__(self, world: World, process: Process, slots: int) -> None:
        self.world = world
        self.process = process
        self.slots = slots
        self.draining = False
        self.busy = 0
        self.uncommitted: list[RunRef] = []
        self.runs: dict[RunRef, RunningJob] = {}
        self._claiming: dict[RunRef, asyncio.Lock] = {}
        self._unanswered: set[RunRef] = set()
        process.spawn(self._beat())
        if world.scenario.offers:
            process.spawn(self._ask())
        process.on_death.append(self._release)

    @property
    def has_room(self) -> bool:
        return self.process.alive and not self.process.frozen and not self.draining and self.busy < self.slots

    def take(self, record: RunRef) -> None:
        """Handle a record."""
        self.busy += 1
        self.uncommitted.append(record)
        self.process.spawn(self._handle(record))

    async def drain(self) -> None:
        """Stop as on SIGTERM: finish what can be finished within the grace, and hand the rest back."""
        self.draining = True
        for _ in range(int(GRACE_SECONDS)):
            if not self.busy:
                break
            await self.process.sleep(1)
        for job in list(self.runs.values()):
            job.stop(DRAINED)
        while self.busy:
            await self.process.sleep(1)
        self.process.kill()

    def commit(self, record: RunRef) -> None:
        """Commit an offset: the record is not read again."""
        if record in self.uncommitted:
            self.uncommitted.remove(record)
            self.world.check_commit(record)

    async def _handle(self, record: RunRef) -> None:
        try:
            claimed = await self.claim(record)
            if claimed is not None and claimed.work is not None:
                await self._run(claimed)
        finally:
            self.busy -= 1
            self.world.pump()

    async def claim(self, record: RunRef) -> Claimed | None:
        """Claim a job, then commit the offset. Without an answer the record is read again, here or elsewhere."""
        async with self._claiming.setdefault(record, asyncio.Lock()):
            if record._replace(epoch=record.epoch + 1) in self.runs:
                # Its record came twice, or it was offered, too.
                self.commit(record)
                return None
            claimed = await self._claim(record)
            if claimed is not None and claimed.work is not None:
                self.runs[claimed.run] = RunningJob(claimed.run)
            return claimed

    async def _claim(self, record: RunRef) -> Claimed | None:
        for _ in range(MAX_CLAIM_TRIES):
            unanswered = record in self._unanswered
            self._unanswered.add(record)
            try:
                claimed: Claimed = await self._call(
                    lambda replica, unanswered=unanswered: replica.claims.claim(  # type: ignore[misc]
                        record, self.process.name, unanswered_before=unanswered
                    )
                )
            except JobNotClaimable:
                self._unanswered.discard(record)
                self.commit(record)
                return None
            except ArgosyError as error:
                if error.kind not in TRANSIENT:
                    # The run was lost while it was prepared.
                    self._unanswered.discard(record)
                    self.commit(record)
                    return None
                await self.process.sleep(self.world.rng.uniform(0, 1))
                continue
            self._unanswered.discard(record)
            self.commit(record)
            return claimed
        if record in self.uncommitted:
            self.uncommitted.remove(record)
            self.world.topic.give_back(record)
        return None

    async def _run(self, claimed: Claimed) -> None:
        job = self.runs[claimed.run]
        try:
            assert claimed.work is not None
            attempts, error = await self._attempts(job, len(claimed.work.plan.candidates))
            why = job.stopped.result() if job.stopped.done() else ""
            if why == LOST:
                return
            if why == DRAINED:
                self.world.observer.returning.add(job.run)
                await self._report(lambda replica: replica.runs.give_back(job.run, attempts))
                return
            answer = answer_of(job.run) if error is None else error
            await self._report(lambda replica: replica.runs.complete(job.run, attempts, answer))
        except Poisoned:
            self.world.kill(self, "poison")
            await self.process.gate()
        finally:
            del self.runs[claimed.run]

    async def _attempts(self, job: RunningJob, candidates: int) -> tuple[list[Attempt], ArgosyError | None]:
        """Make provider calls until one succeeds."""
        made: list[Attempt] = []
        error: ArgosyError | None = Stopped("the run was stopped")
        for number in range(1, candidates + 1):
            if job.stopped.done() or (number > 1 and not await self._may_start(job, number, made)):
                break
            await self.process.gate()
            call = self.world.provider.call(job.run, number)
            error = await self._wait(job, call)
            made.append(
                Attempt(number, number - 1, TokenUsage(UsageSource.REPORTED, call.input_tokens, call.output_tokens))
            )
            if error is None or not call.fallback:
                break
        return made, error

    async def _wait(self, job: RunningJob, call: ProviderCall) -> ArgosyError | None:
        await asyncio.wait({job.stopped}, timeout=call.seconds)
        await self.process.gate()
        if job.stopped.done():
            return Stopped("the run was stopped")
        if call.poison:
            raise Poisoned
        return call.error

    async def _may_start(self, job: RunningJob, number: int, made: list[Attempt]) -> bool:
        """Ask for permission for a while, as the real worker does: without it the run ends with the error so far."""
        starting = AttemptStarting(number, number - 1, tuple(made))
        give_up_at = self.process.monotonic() + PERMISSION_SECONDS
        while not job.stopped.done() and self.process.monotonic() < give_up_at:
            try:
                await self._call(lambda replica: replica.runs.start_attempt(job.run, starting))
            except ArgosyError as error:
                if error.kind in TRANSIENT:
                    await self.process.sleep(self.world.rng.uniform(0, 1))
                    continue
                if isinstance(error, JobLeaseLost):
                    job.stop(LOST)
                return False
            return True
        return False

    async def _report(self, call: Callable[[Replica], Coroutine[Any, Any, Any]]) -> None:
        """Report an end until it is acknowledged, or refused for good."""
        while True:
            try:
                await self._call(call)
            except ArgosyError as error:
                if error.kind in TRANSIENT:
                    await self.process.sleep(self.world.rng.uniform(0, 2))
                    continue
                if not isinstance(error, JobLeaseLost):
                    self.world.breach(f"a report was refused: {error.reason}: {error.message}")
            return

    async def _beat(self) -> None:
        while True:
            runs, slots = list(self.runs), 0 if self.draining else self.slots
            try:
                beat = await self._call(
                    lambda replica, runs=runs, slots=slots: replica.runs.heartbeat(  # type: ignore[misc]
                        self.process.name, "default", slots, runs
                    )
                )
            except RemoteError as error:
                self.world.breach(f"a heartbeat was refused: {error.reason}")
            except ArgosyError:
                pass
            else:
                for why, refs in ((LOST, beat.lost), (CANCELLED, beat.cancelled)):
                    for run in refs:
                        if run in self.runs:
                            self.runs[run].stop(why)
            await self.process.sleep(HEARTBEAT_SECONDS)

    async def _ask(self) -> None:
        """Ask for dispatched jobs that no worker has claimed."""
        while True:
            await self.process.sleep(ASK_SECONDS)
            if self.draining:
                return
            room = Room(self.slots, self.slots - self.busy)
            try:
                offers = await self._call(lambda replica, room=room: replica.runs.offers("default", room))  # type: ignore[misc]
            except ArgosyError:
                continue
            for offer in offers:
                if self.has_room:
                    self.busy += 1
                    self.process.spawn(self._handle(offer.dispatch))

    async def _call(self, invoke: Callable[[Replica], Coroutine[Any, Any, Any]]) -> Any:
        return await self.world.call(self.process, invoke)

    def _release(self) -> None:
        for record in self.uncommitted:
            self.world.topic.give_back(record)
        self.uncommitted.clear()
