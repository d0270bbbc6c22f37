"""Runs the work of a claimed job: a plan or embeddings, each provider call after the first with permission."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError
from values.usage import UNKNOWN_USAGE

from inference_worker.embeddings.run import EmbedRequest, EmbedResult, EmbedRun
from inference_worker.jobs.model import (
    TRANSIENT,
    ClaimedJob,
    Embedding,
    LeaseLost,
    NoWork,
    RunRef,
    RunResult,
    Unrunnable,
)
from inference_worker.jobs.ports import Deltas, Orchestrator
from inference_worker.plans.model import Attempt, AttemptOutcome, AttemptStarting, Chunk, Event, Plan, Stopped
from inference_worker.plans.record import exposure_cause
from inference_worker.plans.run import PlanRun
from inference_worker.providers.assemble import CompletionAssembler
from inference_worker.providers.model import UpstreamFailed

PERMISSION_SECONDS = 10.0
"""How long an attempt waits for an orchestrator that does not answer. After it the run ends with the error so far."""

NewPlanRun = Callable[[Plan], PlanRun]
NewEmbedRun = Callable[[EmbedRequest], EmbedRun]


class JobRun(Protocol):
    """One run of a job. Await `run` once; `stop` may be called at any time on the same loop."""

    def stop(self, reason: Stopped) -> None:
        """Abort the provider call; `run` then returns what was used."""

    async def run(self) -> RunResult: ...


class NewJobRun(Protocol):
    """Makes the run of a claimed job."""

    def __call__(self, job: ClaimedJob) -> JobRun: ...


class JobRuns:
    """Implements `NewJobRun`."""

    def __init__(
        self, orchestrator: Orchestrator, deltas: Deltas, new_plan_run: NewPlanRun, new_embed_run: NewEmbedRun
    ) -> None:
        self._orchestrator = orchestrator
        self._deltas = deltas
        self._new_plan_run = new_plan_run
        self._new_embed_run = new_embed_run

    def __call__(self, job: ClaimedJob) -> JobRun:
        permission = _Permission(self._orchestrator, job.ref)
        match job.work:
            case Plan() as plan:
                return ChatJobRun(job.ref, plan, self._new_plan_run(plan), self._deltas, permission)
            case Embedding() as embedding:
                return EmbedJobRun(embedding, self._new_embed_run, permission)
            case Unrunnable(error):
                return _EndedRun(RunResult((), error=error))
            case NoWork():
                raise ValueError("there is nothing to run")


class ChatJobRun:
    """A chat completion. A stream is handed on as it comes, and put together to the answer."""

    def __init__(self, ref: RunRef, plan: Plan, run: PlanRun, deltas: Deltas, permission: "_Permission") -> None:
        self._ref = ref
        self._streams = plan.stream
        self._run = run
        self._deltas = deltas
        self._permission = permission
        self._assembler = CompletionAssembler()
        self._body: list[bytes] = []
        self._malformed: UpstreamFailed | None = None

    def stop(self, reason: Stopped) -> None:
        self._permission.stop()
        self._run.stop(reason)

    async def run(self) -> RunResult:
        finished = await self._run.run(self._emit)
        error: ArgosyError | None = self._malformed or finished.error
        body = b""
        if error is None:
            try:
                body = self._assembler.result(finished.usage_payload) if self._streams else b"".join(self._body)
            except UpstreamFailed as malformed:
                error = malformed
        return RunResult(finished.attempts, body, error=error)

    async def _emit(self, event: Event) -> None:
        if isinstance(event, Chunk):
            self._take(event)
        elif isinstance(event, AttemptStarting):
            if await self._permission.ask(event):
                self._run.proceed(event.number)
            else:
                self._run.end_requests()

    def _take(self, chunk: Chunk) -> None:
        if not self._streams:
            self._body.extend(chunk.payloads)
            return
        self._deltas.append(self._ref, chunk.payloads)
        if self._malformed is not None:
            return
        try:
            for payload in chunk.payloads:
                self._assembler.add(payload)
        except UpstreamFailed as malformed:
            # The rest can be of no use.
            self._malformed = malformed
            self._run.stop(Stopped("the upstream's stream cannot be put together"))


class EmbedJobRun:
    """Embeddings: one provider call after another until one succeeds."""

    def __init__(self, work: Embedding, new_run: NewEmbedRun, permission: "_Permission") -> None:
        self._work = work
        self._new_run = new_run
        self._permission = permission
        self._stopped: Stopped | None = None
        self._call: asyncio.Task[EmbedResult] | None = None
        self._attempts: list[Attempt] = []

    def stop(self, reason: Stopped) -> None:
        self._stopped = self._stopped or reason
        self._permission.stop()
        if self._call is not None:
            self._call.cancel()

    async def run(self) -> RunResult:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._work.deadline.total_seconds()
        index, announced = 0, 0
        while True:
            left = timedelta(seconds=max(0.0, deadline - loop.time()))
            result = await self._try(index, left)
            self._attempts.append(result.attempt)
            if result.error is None or self._stopped is not None:
                return RunResult(tuple(self._attempts), vectors=result.vectors, error=self._stopped or result.error)
            following = self._following(index, result.error)
            if following is None or loop.time() >= deadline:
                return RunResult(tuple(self._attempts), error=result.error)
            ended, announced = tuple(self._attempts[announced:]), len(self._attempts)
            if not await self._permission.ask(AttemptStarting(announced + 1, following, ended)):
                return RunResult(tuple(self._attempts), error=self._stop_reason() or result.error)
            index = following

    def _stop_reason(self) -> Stopped | None:
        return self._stopped

    async def _try(self, index: int, left: timedelta) -> EmbedResult:
        loop = asyncio.get_running_loop()
        number, started = len(self._attempts) + 1, loop.time()
        work = self._work
        request = EmbedRequest(work.candidates[index], work.inputs, left, work.dimensions, work.refuse_truncation)
        self._call = asyncio.create_task(self._new_run(request).run())
        if self._stopped is not None:
            self._call.cancel()
        try:
            result = await self._call
        except asyncio.CancelledError:
            if self._stopped is None:
                self._call.cancel()
                raise
            spent = timedelta(seconds=loop.time() - started)
            cause = exposure_cause(self._stopped)
            cancelled = Attempt(number, index, AttemptOutcome.CANCELLED, UNKNOWN_USAGE, None, spent, cause)
            return EmbedResult((), cancelled, self._stopped)
        return replace(result, attempt=replace(result.attempt, number=number, candidate=index))

    def _following(self, index: int, error: ArgosyError) -> int | None:
        if not isinstance(error, UpstreamFailed) or not error.fallback:
            return None
        tries = sum(attempt.candidate == index for attempt in self._attempts)
        following = index if error.retry_same and tries == 1 else index + 1
        return following if following < len(self._work.candidates) else None


class _EndedRun:
    """Nothing to run: the result is known."""

    def __init__(self, result: RunResult) -> None:
        self._result = result

    def stop(self, reason: Stopped) -> None:
        pass

    async def run(self) -> RunResult:
        return self._result


class _Permission:
    """Asks the orchestrator before each provider call after the first, so that every call is on record."""

    def __init__(self, orchestrator: Orchestrator, ref: RunRef) -> None:
        self._orchestrator = orchestrator
        self._ref = ref
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def ask(self, attempt: AttemptStarting) -> bool:
        """Return whether the call may be made."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PERMISSION_SECONDS
        backoff = Backoff(min_seconds=0.1, max_seconds=2.0)
        while not self._stopped.is_set() and loop.time() < give_up_at:
            try:
                await self._orchestrator.start_attempt(self._ref, attempt)
            except LeaseLost:
                return False
            except ArgosyError as error:
                if error.kind not in TRANSIENT:
                    return False  # the budget is spent, or the job is being cancelled
                try:
                    async with asyncio.timeout(backoff.next()):
                        await self._stopped.wait()
                except TimeoutError:
                    continue
            else:
                return not self._stopped.is_set()
        return False
