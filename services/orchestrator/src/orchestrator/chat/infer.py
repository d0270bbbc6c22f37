"""Infer: run the plan on a worker, and forward its chunks until it is finished, or its client leaves."""

import asyncio
from datetime import timedelta
from typing import Any

from chassis.errors import ArgosyError, DeadlineExceeded, Unavailable
from values.usage import ExposureCause

from orchestrator.chat.model import Stopped
from orchestrator.chat.stream import StreamBuffer
from orchestrator.errors import is_refusal
from orchestrator.limits import DisconnectPolicy, Limits
from orchestrator.reservations.attempts import RequestAttempts
from orchestrator.workers.model import AttemptStarting, Finished, Plan, Started
from orchestrator.workers.ports import InferenceCall, WorkerClient


class PlanAbort:
    """Stops one plan, once, while it runs."""

    __slots__ = ("_call", "_limit", "_timeout", "ended", "requested")

    def __init__(self, call: InferenceCall, limit: asyncio.Timeout, timeout: timedelta) -> None:
        """`timeout` is what the worker has to report the usage; then `limit` expires."""
        self._call = call
        self._limit = limit
        self._timeout = timeout
        self.ended = False
        self.requested = False

    def __call__(self) -> None:
        if self.ended or self.requested:
            return
        self.requested = True
        self._limit.reschedule(asyncio.get_running_loop().time() + self._timeout.total_seconds())
        self._call.stop()


class Disconnects:
    """Aborts the plans of clients that leave, or lets them run to their end.

    A drained plan keeps its concurrency slot. It ends at its deadline, or when the service stops.
    """

    def __init__(self, limits: Limits) -> None:
        self._streamed, self._non_streamed = limits.streamed_disconnect, limits.non_streamed_disconnect
        self._drained: set[PlanAbort] = set()
        self._stopped = False
        self.stopping = False
        """Whether the service drains: what is aborted from now on is not the clients' doing."""

    def client_left(self, abort: PlanAbort, *, stream: bool) -> None:
        """Abort the plan, or let it run on."""
        policy = self._streamed if stream else self._non_streamed
        if policy is DisconnectPolicy.ABORT or self._stopped:
            abort()
        elif not abort.ended:
            self._drained.add(abort)

    def plan_ended(self, abort: PlanAbort) -> None:
        """Forget a plan that is over."""
        abort.ended = True
        self._drained.discard(abort)

    def begin_stop(self) -> None:
        """Note that the service drains."""
        self.stopping = True

    def abort_all(self) -> None:
        """Abort all drained plans, so that their usage is written before the process exits."""
        self._stopped = True
        for abort in tuple(self._drained):
            abort()


async def infer(
    plan: Plan,
    buffer: StreamBuffer[Any],
    attempts: RequestAttempts,
    *,
    worker: WorkerClient,
    disconnects: Disconnects,
    abort_timeout: timedelta,
) -> Finished:
    """Run `plan` and put its chunks into `buffer` as they come. Errors are part of the result, never raised.

    When the client disconnects and the policy is to abort, the worker gets a stop, and has `abort_timeout` to report
    what was used. When the worker is lost, the attempt that ran has unknown usage, and those before it their own.
    """
    try:
        await worker.wait_ready(plan.deadline)
        if buffer.disconnected:
            # A provider call that is not needed any more would cost money all the same.
            raise Stopped("the client went away before a worker had its request")
    except (Unavailable, DeadlineExceeded, Stopped) as refusal:
        return Finished((), refusal)
    forwarder = _Forwarder(buffer, attempts)
    try:
        async with asyncio.timeout(None) as limit, worker.infer(plan) as call:
            abort = PlanAbort(call, limit, abort_timeout)
            buffer.on_disconnect(lambda: disconnects.client_left(abort, stream=plan.stream))
            try:
                await forwarder.run(call, abort)
            finally:
                disconnects.plan_ended(abort)
    except TimeoutError:
        error: ArgosyError = DeadlineExceeded("the worker did not finish in time")
    except ArgosyError as raised:
        error = raised
    if forwarder.finished is not None:
        # It counts however the call itself ended.
        return _complete(forwarder, attempts, stopping=disconnects.stopping)
    if is_refusal(error) and not forwarder.started:
        return Finished(attempts.refused(), error)
    return Finished(attempts.unknown_usage(), error)


def _complete(forwarder: "_Forwarder", attempts: RequestAttempts, *, stopping: bool) -> Finished:
    """Return the end of a plan with all its attempts, and the error that helps the client most."""
    finished, refusal = forwarder.finished, forwarder.refusal
    assert finished is not None  # noqa: S101 - the caller has checked it
    try:
        made = attempts.finished(finished.attempts)
    except ArgosyError as error:
        return Finished(attempts.unknown_usage(), error)
    if stopping:
        # A call that the drain cut looks as if its client had left.
        made = tuple(
            one._replace(exposure_cause=ExposureCause.FLEET) if one.exposure_cause is ExposureCause.CLIENT else one
            for one in made
        )
    if made is finished.attempts and refusal is None:
        return finished
    # The attempt before failed, and may succeed if it is repeated; without quota the request as a whole cannot.
    exhausted = refusal is not None and refusal.reason == "INSUFFICIENT_QUOTA"
    return finished._replace(attempts=made, error=refusal if exhausted else finished.error)


class _Forwarder:
    """Forwards chunks from a worker to a buffer, and records each provider call before it is made."""

    def __init__(self, buffer: StreamBuffer[Any], attempts: RequestAttempts) -> None:
        self._buffer = buffer
        self._attempts = attempts
        self.started = False
        self.refusal: ArgosyError | None = None
        self.finished: Finished | None = None

    async def run(self, call: InferenceCall, abort: PlanAbort) -> None:
        while self.finished is None:
            event = await call.read()
            if isinstance(event, Finished):
                self.finished = event
            elif isinstance(event, Started):
                self.started = True
            elif isinstance(event, AttemptStarting):
                self.started = True
                await self._start_attempt(event, call, abort)
            else:
                self.started = True
                await self._buffer.put(event.payloads)

    async def _start_attempt(self, event: AttemptStarting, call: InferenceCall, abort: PlanAbort) -> None:
        """Let the worker make the call once metering has it on record; else stop the plan."""
        self._attempts.end(event.ended)
        self._attempts.announce(event.number, event.candidate)
        try:
            await self._attempts.start()
        except ArgosyError as error:
            self.refusal = error
            abort()
            return
        if not abort.requested:
            self._attempts.allow()
            await call.proceed(event.number)
