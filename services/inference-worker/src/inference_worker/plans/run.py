"""Runs a plan: one provider call after another, each announced, until one answers."""

import asyncio
from datetime import timedelta

from chassis.aio import CancelScope, TimedOut
from chassis.clock import Clock
from chassis.errors import ArgosyError
from values.usage import NO_USAGE

from inference_worker.breakers.circuits import Circuits
from inference_worker.plans.attempt import RunningAttempt
from inference_worker.plans.choose import Call, Choice, RetryPolicy
from inference_worker.plans.model import (
    Attempt,
    AttemptOutcome,
    AttemptStarting,
    Chunk,
    Emit,
    Finished,
    Plan,
    Started,
    Stopped,
)
from inference_worker.plans.outcome import about_own_credential, record_outcome
from inference_worker.plans.ports import AttemptObserver
from inference_worker.providers.model import UpstreamFailed, UpstreamTimedOut
from inference_worker.providers.ports import Upstreams
from inference_worker.providers.unavailable import CHAT_UNSUPPORTED

USAGE_WAIT = timedelta(seconds=2)
"""How long a stopped stream is read on, for its usage or for what was written and not read."""


class PlanRun:
    """One run of a plan. Await `run` once; the other methods may be called at any time on the same loop."""

    __slots__ = (
        *("_announced", "_attempts", "_begun", "_choice", "_clock", "_deadline", "_error", "_min_rate"),
        *("_observer", "_permission", "_plan", "_requests_ended", "_running", "_scope", "_stop_timer", "_usage_wait"),
    )

    def __init__(
        self,
        plan: Plan,
        *,
        upstreams: Upstreams,
        clock: Clock,
        observer: AttemptObserver,
        usage_wait: timedelta = USAGE_WAIT,
        circuits: Circuits | None = None,
        retries: RetryPolicy | None = None,
        min_rate: float = 0.0,
    ) -> None:
        """`min_rate` is the slowest that a stream may be before its first content, in bytes per second; 0 for any."""
        self._plan = plan
        self._choice = Choice(
            plan.candidates, upstreams, circuits or Circuits(), clock.monotonic, policy=retries or RetryPolicy()
        )
        self._min_rate = min_rate
        self._clock = clock
        self._observer = observer
        self._usage_wait = usage_wait
        self._scope = CancelScope()
        self._deadline = self._scope.now() + plan.deadline.total_seconds()
        self._running: RunningAttempt | None = None
        self._attempts: list[Attempt] = []
        self._announced = 0
        self._begun = 0
        self._permission: asyncio.Future[bool] | None = None
        self._requests_ended = False
        self._stop_timer: asyncio.TimerHandle | None = None
        self._error: ArgosyError | None = None

    def stop(self, reason: Stopped | None = None) -> None:
        """Abort the provider call; `run` then returns its record of attempts. Ignored after the end.

        A stream is read on for a short time when its model has finished, so that only its usage is still to come, and
        when its client was so slow that much of what the provider wrote is unread, and so not counted.
        """
        reason = reason or Stopped()
        if self._running is None or not self._running.reads_on:
            self._abort(reason)
        elif self._stop_timer is None:
            loop = asyncio.get_running_loop()
            self._stop_timer = loop.call_later(self._usage_wait.total_seconds(), self._abort, reason)

    def proceed(self, attempt: int) -> None:
        """Allow the provider call that was announced as `attempt`. Ignored for all others."""
        if attempt == len(self._attempts) + 1:
            self._permit(True)

    def end_requests(self) -> None:
        """Note that the caller sends nothing more: no provider call can be allowed any more."""
        self._requests_ended = True
        self._permit(False)

    async def run(self, emit: Emit) -> Finished:
        """Emit `Started` once, then chunks; return the record of attempts, whether the plan succeeded or not.

        The first attempt is of the first candidate. Each later one is announced, and waits for `proceed`.
        When the run is cancelled, or `emit` raises, it aborts the provider call too, but the record is lost.
        """
        try:
            call = self._choice.first() or self._pass_over()
            while call is not None:
                if self._attempts and not await self._announce(call, emit):
                    break
                self._begun += 1
                await self._try(call, emit)
                call = await self._next()
        finally:
            # Also when the run is cancelled while it waits, or the caller is gone.
            if self._begun < self._choice.calls:
                self._choice.give_back()
            self._scope.close()
            if self._stop_timer is not None:
                self._stop_timer.cancel()
        running = self._running
        payload, warnings = (running.usage_payload, running.warnings) if running is not None else (b"", ())
        return Finished(tuple(self._attempts), self._error, payload, warnings)

    def _abort(self, reason: Stopped) -> None:
        self._scope.cancel(reason)
        if self._running is not None:
            self._running.abort()

    def _permit(self, permitted: bool) -> None:
        if self._permission is not None and not self._permission.done():
            self._permission.set_result(permitted)

    def _pass_over(self) -> Call | None:
        """Record that the first candidate is not called, and return the call of another one.

        The caller counts on a first attempt of the first candidate.
        """
        self._observer.passed_over(self._plan.candidates[0])
        self._attempts.append(Attempt(1, 0, AttemptOutcome.PASSED_OVER, NO_USAGE, None, timedelta(0)))
        call = self._choice.next_candidate()
        self._error = self._choice.refusal()
        return call

    async def _next(self) -> Call | None:
        """Return the next call, after its wait; None when the plan is over."""
        error, running = self._error, self._running
        if not isinstance(error, UpstreamFailed) or running is None or running.committed or self._scope.cancelled:
            return None
        call = self._choice.after(error)
        if call is None:
            return None
        if self._scope.now() + call.wait >= self._deadline:
            self._error = error if call.wait else _out_of_time()
            return None
        if call.wait:
            try:
                with self._scope.until(self._deadline):
                    await asyncio.sleep(call.wait)
            except (Stopped, TimedOut):
                return None
        return call

    async def _announce(self, call: Call, emit: Emit) -> bool:
        """Announce the next attempt, and wait. If it is not allowed, the error of the attempt before is the plan's."""
        if self._requests_ended:
            return False
        ended, self._announced = tuple(self._attempts[self._announced :]), len(self._attempts)
        self._permission = asyncio.get_running_loop().create_future()
        await emit(AttemptStarting(len(self._attempts) + 1, call.place, ended))
        try:
            with self._scope.until(self._deadline):
                return await self._permission
        except TimedOut:
            self._error = _out_of_time()
        except Stopped:
            pass
        return False

    async def _try(self, call: Call, emit: Emit) -> None:
        """Run one attempt, and record it and its error even when it is cancelled."""
        number = len(self._attempts) + 1
        running = self._running = RunningAttempt(
            call.candidate,
            call.upstream.provider or CHAT_UNSUPPORTED,
            credential=call.credential,
            plan=self._plan,
            deadline=self._deadline,
            scope=self._scope,
            clock=self._clock,
            min_rate=self._min_rate,
        )
        span = self._observer.start(call.candidate, number, call.credential_id)
        attempt: Attempt | None = None
        self._error = None
        try:
            self._error = await self._forward(running, call, emit)
            running.abort()
            attempt = await running.finish(number, call.place, self._error, call.upstream.counter)
        finally:
            running.abort()
            if attempt is None:
                attempt = running.abandon(number, call.place)
                call.circuit.abandoned(call.ticket)
            self._attempts.append(attempt)
            span.finish(attempt, self._error)

    async def _forward(self, running: RunningAttempt, call: Call, emit: Emit) -> UpstreamFailed | Stopped | None:
        """Emit the whole response of a candidate; return the error that ended it early."""
        try:
            payloads = await running.read_opening()
            call.circuit.succeeded(self._clock.monotonic(), call.ticket, first_byte=running.first_byte_seconds)
            await emit(Started(call.place))
            while payloads:
                await emit(Chunk(payloads))
                if not self._plan.stream and running.has_ended and not self._scope.cancelled:
                    break  # the next read would return nothing
                payloads = await running.read()
        except (UpstreamFailed, Stopped) as error:
            record_outcome(call, running, error, self._clock.monotonic())
            return about_own_credential(error) if call.own_credential else error
        return None


def _out_of_time() -> UpstreamTimedOut:
    return UpstreamTimedOut("no upstream responded before the deadline")
