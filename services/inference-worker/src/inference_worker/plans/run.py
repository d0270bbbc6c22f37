"""Runs a plan: candidates in order until one responds."""

from chassis.aio import CancelScope
from chassis.clock import Clock
from chassis.errors import ArgosyError

from inference_worker.plans.attempt import RunningAttempt
from inference_worker.plans.fallback import next_candidate
from inference_worker.plans.model import Attempt, Chunk, Emit, Finished, Plan, Started, Stopped
from inference_worker.plans.ports import AttemptObserver
from inference_worker.providers.model import UpstreamFailed, UpstreamTimedOut
from inference_worker.providers.ports import Upstreams
from inference_worker.providers.unavailable import CHAT_UNSUPPORTED, UNKNOWN_UPSTREAM


class PlanRun:
    """One run of a plan. Await `run` once; `stop` may be called at any time on the same loop."""

    __slots__ = ("_attempts", "_clock", "_deadline", "_error", "_observer", "_plan", "_running", "_scope", "_upstreams")

    def __init__(self, plan: Plan, *, upstreams: Upstreams, clock: Clock, observer: AttemptObserver) -> None:
        self._plan = plan
        self._upstreams = upstreams
        self._clock = clock
        self._observer = observer
        self._scope = CancelScope()
        self._deadline = self._scope.now() + plan.deadline.total_seconds()
        self._running: RunningAttempt | None = None
        self._attempts: list[Attempt] = []
        self._error: ArgosyError | None = None

    def stop(self, reason: Stopped | None = None) -> None:
        """Abort the provider call at once; `run` then returns its record of attempts. Ignored after the end."""
        self._scope.cancel(reason or Stopped())
        if self._running is not None:
            self._running.abort()

    async def run(self, emit: Emit) -> Finished:
        """Emit `Started` once, then chunks; return the record of attempts, whether the plan succeeded or not.

        When it is cancelled, or `emit` raises, it aborts the provider call too, but the record is lost.
        """
        index: int | None = 0
        try:
            while index is not None:
                await self._try(index, emit)
                index = self._next()
        finally:
            self._scope.close()
        payload = self._running.usage_payload if self._running is not None else b""
        return Finished(tuple(self._attempts), self._error, payload)

    def _next(self) -> int | None:
        """Return the index of the next candidate; None when the plan is over."""
        index = next_candidate(self._error, self._attempts, len(self._plan.candidates))
        if index is None or self._scope.cancelled:
            return None
        if self._scope.now() >= self._deadline:
            self._error = UpstreamTimedOut("no upstream responded before the deadline")
            return None
        return index

    async def _try(self, index: int, emit: Emit) -> None:
        """Run one attempt, and record it and its error even when it is cancelled."""
        candidate = self._plan.candidates[index]
        number = len(self._attempts) + 1
        upstream = self._upstreams.get(candidate.upstream, UNKNOWN_UPSTREAM)
        running = self._running = RunningAttempt(
            candidate,
            upstream.provider or CHAT_UNSUPPORTED,
            plan=self._plan,
            deadline=self._deadline,
            scope=self._scope,
            clock=self._clock,
        )
        span = self._observer.start(candidate, number)
        attempt: Attempt | None = None
        self._error = None
        try:
            self._error = await _forward(running, index, emit)
            running.abort()
            attempt = await running.finish(number, index, self._error, upstream.counter)
        finally:
            running.abort()
            if attempt is None:
                attempt = running.abandon(number, index)
            self._attempts.append(attempt)
            span.finish(attempt, self._error)


async def _forward(running: RunningAttempt, index: int, emit: Emit) -> UpstreamFailed | Stopped | None:
    """Emit the whole response of a candidate; return the error that ended it early."""
    try:
        payloads = await running.read()
        await emit(Started(index))
        while payloads:
            await emit(Chunk(payloads))
            payloads = await running.read()
    except (UpstreamFailed, Stopped) as error:
        return error
    return None
