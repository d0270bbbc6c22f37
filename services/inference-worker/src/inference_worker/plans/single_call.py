"""One provider call whose answer comes whole, as vectors or scores. Another attempt is another call of its caller."""

import asyncio
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Generic, NamedTuple, TypeVar

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause, TokenUsage

from inference_worker.breakers.circuits import Circuits
from inference_worker.plans.attempt import IMPATIENT_SECONDS
from inference_worker.plans.choose import Call, Choice, RetryPolicy
from inference_worker.plans.model import Attempt, AttemptOutcome, Candidate
from inference_worker.plans.outcome import about_own_credential, record_failure
from inference_worker.plans.ports import AttemptObserver
from inference_worker.plans.record import failed_outcome
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import UpstreamFailed, UpstreamTimedOut, VectorsTooLarge
from inference_worker.providers.ports import Upstream, Upstreams
from inference_worker.token_counting.model import TokenCounter

Answer = TypeVar("Answer")


class CallRecord(NamedTuple):
    """The record of the attempt, and the error that ended it."""

    attempt: Attempt
    error: ArgosyError | None


class SingleCall(ABC, Generic[Answer]):
    """One run of a request. When it is cancelled it aborts the upstream call, and the record of the attempt is lost."""

    def __init__(
        self,
        candidate: Candidate,
        deadline: timedelta,
        *,
        upstreams: Upstreams,
        clock: Clock,
        observer: AttemptObserver,
        circuits: Circuits | None = None,
    ) -> None:
        self._candidate = candidate
        self._choice = Choice((candidate,), upstreams, circuits or Circuits(), clock.monotonic, policy=RetryPolicy())
        self._clock = clock
        self._observer = observer
        self._called = False
        """Whether the provider was called: before it nothing tells anything of the upstream."""
        self._is_late = False
        self._deadline = asyncio.get_running_loop().time() + deadline.total_seconds()

    @abstractmethod
    async def _ask(self, upstream: Upstream, credential: Credential | None) -> Answer:
        """Call the provider, and note that it was called. Raises `UpstreamFailed` or `InvalidRequest`."""

    @abstractmethod
    async def _usage(self, answer: Answer, counter: TokenCounter) -> TokenUsage:
        """Return what the call consumed."""

    async def make(self) -> tuple[Answer | None, CallRecord]:
        """Make the provider call, and record it and its error even when it is cancelled."""
        call = self._choice.first()
        if call is None:
            self._observer.passed_over(self._candidate)
            passed_over = Attempt(1, 0, AttemptOutcome.PASSED_OVER, NO_USAGE, None, timedelta(0))
            return None, CallRecord(passed_over, self._choice.refusal())
        span = self._observer.start(self._candidate, 1, call.credential_id)
        started_at = self._clock.monotonic()
        answer: Answer | None = None
        error: ArgosyError | None = None
        outcome, usage, cause = AttemptOutcome.CANCELLED, UNKNOWN_USAGE, ExposureCause.FLEET
        try:
            answer = await self._ask_in_time(call)
            call.circuit.succeeded(self._clock.monotonic(), call.ticket)
            cause = ExposureCause.PROVIDER
            outcome, usage = AttemptOutcome.SUCCEEDED, await self._usage(answer, call.upstream.counter)
        except UpstreamFailed as failed:
            outcome, error = failed_outcome(failed), failed
            cause = ExposureCause.FLEET if isinstance(failed, VectorsTooLarge) else ExposureCause.PROVIDER
            usage = failed.usage or (UNKNOWN_USAGE if failed.maybe_billed else NO_USAGE)
            self._record_failure(call, failed, self._clock.monotonic() - started_at)
            # Another credential may answer at once: the caller asks again, and gets it.
            failed.retry_same = failed.retry_same or self._choice.has_other_account(failed)
            error = about_own_credential(failed) if call.own_credential else failed
        except InvalidRequest as refused:
            # Nothing was sent, so this tells nothing of the upstream.
            outcome, usage, error = AttemptOutcome.REJECTED, NO_USAGE, refused
            call.circuit.abandoned(call.ticket)
        finally:
            if answer is None and error is None:
                call.circuit.abandoned(call.ticket)
            duration = timedelta(seconds=self._clock.monotonic() - started_at)
            unknown = cause if usage.known is None else None
            attempt = Attempt(1, 0, outcome, usage, None if answer is None else duration, duration, unknown)
            span.finish(attempt, error)
        return answer, CallRecord(attempt, error)

    async def _ask_in_time(self, call: Call) -> Answer:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._ask(call.upstream, call.credential)
        except TimeoutError:
            self._is_late = True
            raise UpstreamTimedOut("the upstream did not respond in time", maybe_billed=self._called) from None

    def _record_failure(self, call: Call, failed: UpstreamFailed, waited: float) -> None:
        if not self._called or (self._is_late and waited < IMPATIENT_SECONDS):
            call.circuit.abandoned(call.ticket)
        else:
            record_failure(call, failed, self._clock.monotonic(), hung=self._is_late)
