"""Runs a plan: candidates in order until one responds; a failed attempt falls back to the next."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from chassis.aio import CancelScope, TimedOut
from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.tenancy import find_caller

from inference_worker.plans.attempt import RunningAttempt
from inference_worker.plans.model import (
    Attempt,
    AttemptStarting,
    Candidate,
    Chunk,
    Emit,
    Finished,
    Plan,
    Started,
    Stopped,
)
from inference_worker.plans.ports import AttemptObserver
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import UpstreamFailed, UpstreamTimedOut
from inference_worker.providers.ports import Upstream, Upstreams
from inference_worker.providers.unavailable import CHAT_UNSUPPORTED, NO_CREDENTIAL_LEFT, UNKNOWN_UPSTREAM

USAGE_WAIT = timedelta(seconds=2)
"""How long a stopped stream is read on, for its usage or for what was written and not read."""


class PlanRun:
    """One run of a plan. Await `run` once; the other methods may be called at any time on the same loop."""

    __slots__ = (
        *("_announced", "_attempts", "_clock", "_deadline", "_error", "_observer", "_permission", "_plan", "_running"),
        *("_requests_ended", "_scope", "_stop_timer", "_upstreams", "_usage_wait"),
    )

    def __init__(
        self,
        plan: Plan,
        *,
        upstreams: Upstreams,
        clock: Clock,
        observer: AttemptObserver,
        usage_wait: timedelta = USAGE_WAIT,
    ) -> None:
        self._plan = plan
        self._upstreams = upstreams
        self._clock = clock
        self._observer = observer
        self._usage_wait = usage_wait
        self._scope = CancelScope()
        self._deadline = self._scope.now() + plan.deadline.total_seconds()
        self._running: RunningAttempt | None = None
        self._attempts: list[Attempt] = []
        self._announced = 0
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
        index: int | None = 0
        try:
            while index is not None:
                await self._try(index, emit)
                index = self._next()
                if index is not None and not await self._announce(index, emit):
                    break
        finally:
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

    def _next(self) -> int | None:
        """Return the index of the next candidate; None when the plan is over."""
        index = next_candidate(self._error, self._attempts, self._plan.candidates)
        if index is None or self._scope.cancelled:
            return None
        if self._scope.now() >= self._deadline:
            self._error = _out_of_time()
            return None
        return index

    async def _announce(self, index: int, emit: Emit) -> bool:
        """Announce the next attempt, and wait. If it is not allowed, the error of the attempt before is the plan's."""
        if self._requests_ended:
            return False
        ended, self._announced = tuple(self._attempts[self._announced :]), len(self._attempts)
        self._permission = asyncio.get_running_loop().create_future()
        await emit(AttemptStarting(len(self._attempts) + 1, index, ended))
        try:
            with self._scope.until(self._deadline):
                return await self._permission
        except TimedOut:
            self._error = _out_of_time()
        except Stopped:
            pass
        return False

    async def _try(self, index: int, emit: Emit) -> None:
        """Run one attempt, and record it and its error even when it is cancelled."""
        candidate = self._plan.candidates[index]
        number = len(self._attempts) + 1
        upstream = self._upstreams.get(candidate.upstream, UNKNOWN_UPSTREAM)
        credential = pick_credential(upstream)
        provider = upstream.provider or CHAT_UNSUPPORTED
        if credential is None and upstream.requires_credential:
            provider = NO_CREDENTIAL_LEFT
        running = self._running = RunningAttempt(
            candidate,
            provider,
            credential=credential,
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


def pick_credential(upstream: Upstream) -> Credential | None:
    """Return the credential for a call of the current caller's tenant."""
    caller = find_caller()
    credentials = upstream.credentials.of(caller.principal.tenant_id if caller is not None else "")
    return credentials[0] if credentials else None


def _out_of_time() -> UpstreamTimedOut:
    return UpstreamTimedOut("no upstream responded before the deadline")


def next_candidate(
    error: ArgosyError | None, attempts: Sequence[Attempt], candidates: Sequence[Candidate]
) -> int | None:
    """Return the index of the candidate to try after the attempts so far; None when the plan is over.

    There is no fallback after a byte of the response: the client may have it. A connection that dropped at once is
    tried once more on the same candidate: the peer may just have closed a kept-alive connection. Candidates that are
    fallbacks follow only others that are.
    """
    last = attempts[-1]
    if not isinstance(error, UpstreamFailed) or not error.fallback or last.first_byte_after is not None:
        return None
    tries = sum(attempt.candidate == last.candidate for attempt in attempts)
    if error.retry_same and tries == 1:
        return last.candidate
    rest = range(last.candidate + 1, len(candidates))
    same = (index for index in rest if candidates[index].is_fallback == candidates[last.candidate].is_fallback)
    return next(same, None)
