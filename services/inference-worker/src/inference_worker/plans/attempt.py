"""One attempt while it runs: open the completion, read it, and record outcome and usage."""

import re
from collections.abc import Sequence
from datetime import timedelta

from chassis.aio import CancelScope, TimedOut
from chassis.clock import Clock
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause, TokenUsage, UsageSource

from inference_worker.plans.answer_check import find_fault
from inference_worker.plans.model import AnswerCheck, Attempt, AttemptOutcome, Candidate, Plan, Stopped
from inference_worker.plans.opening import opens_only
from inference_worker.plans.record import exposure_cause, failed_outcome, is_request_refused
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import (
    UpstreamAnswerRefused,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTimedOut,
    UpstreamTooSlow,
)
from inference_worker.providers.ports import Completion, Provider
from inference_worker.token_counting.model import TokenCounter, count_prompt, may_hide_reasoning
from inference_worker.token_counting.output import OutputText

MAX_HELD_BYTES = 64 * 1024
"""Of a stream without content so far; more than these are passed on."""

GUARD_GRACE_SECONDS = 2.0
"""A stream that began may be slow for so long, before its rate counts."""

IMPATIENT_SECONDS = 10.0
"""A client's own deadline below this tells nothing about the upstream."""

MAX_UNREAD_BYTES = 16 * 1024
"""A stopped stream with more unread bytes than these is read on: its client did not read what the provider wrote."""

_STREAM_ERRORS = (UpstreamInterrupted, UpstreamProtocolError, UpstreamRejected, UpstreamTimedOut)
"""What may end a stream under its own code."""

# It matches inside no JSON string: there its quotes are escaped.
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')


class RunningAttempt:
    """One candidate being tried, within the plan's deadline."""

    __slots__ = (
        *("_candidate", "_clock", "_completion", "_credential", "_deadline", "_first_byte_at", "_first_byte_deadline"),
        *("_guard_from", "_held_bytes", "_min_rate", "committed", "impatient"),
        *("_idle_seconds", "_is_refused", "_last_read", "_output", "_previous_read", "_provider", "_scope", "_sent"),
        *("_started_at", "_stream"),
    )

    def __init__(
        self,
        candidate: Candidate,
        provider: Provider,
        *,
        credential: Credential | None = None,
        plan: Plan,
        deadline: float,
        scope: CancelScope,
        clock: Clock,
        min_rate: float = 0.0,
    ) -> None:
        """`deadline` is the plan's, by the scope's time. `min_rate` is of a stream before its content, in bytes/s."""
        self._candidate = candidate
        self._provider = provider
        self._credential = credential
        self._stream = plan.stream
        self._scope = scope
        self._clock = clock
        self._started_at = clock.monotonic()
        self._first_byte_at: float | None = None
        self._first_byte_deadline = min(deadline, scope.now() + plan.first_byte_timeout.total_seconds())
        self._idle_seconds = plan.idle_timeout.total_seconds()
        self._deadline = deadline
        self.committed = False
        """Whether the client may have some of the answer's content: from then on there is no other attempt."""
        self.impatient = False
        """Whether it ended by a client's deadline that was too short to tell anything about the upstream."""
        self._min_rate = min_rate if plan.stream else 0.0
        self._guard_from = 0.0
        self._held_bytes = 0
        self._sent = False
        self._is_refused = False
        self._completion: Completion | None = None
        self._output = OutputText()
        self._previous_read: Sequence[bytes] = ()
        self._last_read: Sequence[bytes] = ()

    async def read_opening(self) -> Sequence[bytes]:
        """Return the payloads up to the first that holds content; with them the answer is committed.

        Raises as `read`, and `UpstreamAnswerRefused` for an answer, read whole, that does not pass its check. Until
        then another attempt can still take this one's place.
        """
        held: list[bytes] = []
        while True:
            payloads = await self.read()
            if not payloads or not self._stream:
                break
            held += payloads
            self._held_bytes += sum(map(len, payloads))
            if self._held_bytes > MAX_HELD_BYTES or not opens_only(payloads):
                break
        if self._candidate.answer_check is not AnswerCheck.NONE and not self._stream:
            payloads = await self._read_checked(payloads)
        self.committed = True
        return held or payloads

    async def _read_checked(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        # To its end: the usage may come last.
        while more := await self.read():
            payloads = [*payloads, *more]
        fault = find_fault(payloads, self._candidate.answer_check)
        if fault is not None:
            self._is_refused = True
            raise UpstreamAnswerRefused(f"the answer of a cheap model is not what was asked for: {fault}")
        return payloads

    async def read(self) -> Sequence[bytes]:
        """Return the next payloads; empty at the end. Raises an `UpstreamFailed`, or `Stopped`."""
        deadline = self._next_deadline()
        while True:
            try:
                with self._scope.until(deadline):
                    completion = self._completion or await self._open()
                    payloads = await completion.read()
                break
            except TimedOut:
                later = self._later_deadline()
                if later <= deadline:
                    raise self._timed_out() from None
                deadline = later
            except UpstreamFailed as error:
                if self.committed and not isinstance(error, _STREAM_ERRORS):
                    interrupted = UpstreamInterrupted(
                        f"the upstream's response was interrupted: {error.message}", retry_after=error.retry_after
                    )
                    interrupted.usage = error.usage
                    raise interrupted from error
                raise
        if payloads:
            if self._first_byte_at is None:
                self._first_byte_at = self._clock.monotonic()
                self._guard_from = self._scope.now() + GUARD_GRACE_SECONDS
            self._output.add(payloads)
            self._previous_read, self._last_read = self._last_read, payloads
        return payloads

    async def _open(self) -> Completion:
        self._sent = True
        candidate = self._candidate
        self._completion = await self._provider.open(
            candidate.model, candidate.body, stream=self._stream, credential=self._credential
        )
        return self._completion

    def _later_deadline(self) -> float:
        """Return the deadline by the last byte that arrived: keep-alives are life, but hold no payload.

        An interrupted read of a completion that knows its last byte may be repeated.
        """
        last_byte_at: float | None = getattr(self._completion, "last_byte_at", None)
        if last_byte_at is None:
            return 0.0
        later = min(self._deadline, last_byte_at + self._idle_seconds)
        if self.committed or not self._min_rate or self._first_byte_at is None:
            return later
        return min(later, self._guard_from + self._held_bytes / self._min_rate)

    def _next_deadline(self) -> float:
        if self._first_byte_at is None:
            return self._first_byte_deadline
        idle = min(self._deadline, self._scope.now() + self._idle_seconds)
        if self.committed or not self._min_rate:
            return idle
        return min(idle, self._guard_from + self._held_bytes / self._min_rate)

    def _timed_out(self) -> UpstreamFailed:
        now = self._scope.now()
        waited = self._clock.monotonic() - self._started_at
        self.impatient = now >= self._deadline and waited < IMPATIENT_SECONDS
        if self._first_byte_at is None:
            return UpstreamTimedOut("the upstream did not respond in time")
        if not self.committed and self._min_rate and now < self._deadline:
            return UpstreamTooSlow("the upstream's stream is slower than the operator allows")
        return UpstreamTimedOut("the upstream's stream stalled")

    @property
    def first_byte_seconds(self) -> float:
        """Seconds from the start to the first byte; 0 without one."""
        return 0.0 if self._first_byte_at is None else self._first_byte_at - self._started_at

    def abort(self) -> None:
        """Close the completion if it has not ended."""
        if self._completion is not None:
            self._completion.abort()

    @property
    def has_ended(self) -> bool:
        """Whether all of the answer was read without an error; false where the completion cannot tell."""
        return getattr(self._completion, "has_ended", False)

    @property
    def reads_on(self) -> bool:
        """Whether a stop should read on for a short time: for the usage, or for what was written and not read yet."""
        if not self._stream or self._first_byte_at is None:
            return False
        # Of the completions only those of our own HTTP client know their backlog.
        backlog_bytes: int = getattr(self._completion, "backlog_bytes", 0)
        return backlog_bytes > MAX_UNREAD_BYTES or self._awaits_usage

    @property
    def _awaits_usage(self) -> bool:
        """Whether the model has finished, and the provider has not reported the usage yet."""
        usage = self._completion.usage if self._completion is not None else None
        if usage is not None and usage.known is not None:
            return False
        return any(map(_FINISH_REASON.search, (*self._previous_read[-4:], *self._last_read[-4:])))

    @property
    def usage_payload(self) -> bytes:
        """The last payload, if it held nothing but usage."""
        return self._completion.usage_payload if self._completion is not None else b""

    @property
    def warnings(self) -> Sequence[str]:
        """What was left out of the request; only translating providers do that."""
        return getattr(self._completion, "warnings", ())

    async def finish(
        self, number: int, index: int, error: UpstreamFailed | Stopped | None, counter: TokenCounter
    ) -> Attempt:
        """Return the record of the attempt; its usage is counted if the provider did not report it."""
        duration = timedelta(seconds=self._clock.monotonic() - self._started_at)
        outcome = self._outcome(error)
        usage = await self._usage(outcome, counter)
        cause = None if usage.known is not None else exposure_cause(error)
        refused = outcome is AttemptOutcome.REJECTED and is_request_refused(error)
        return Attempt(number, index, outcome, usage, self._first_byte_after(), duration, cause, refused)

    def abandon(self, number: int, index: int) -> Attempt:
        """Return the record of an attempt whose call was cancelled: counting would delay the cancellation."""
        duration = timedelta(seconds=self._clock.monotonic() - self._started_at)
        first_byte_after, outcome, cause = self._first_byte_after(), AttemptOutcome.CANCELLED, ExposureCause.FLEET
        return Attempt(number, index, outcome, UNKNOWN_USAGE, first_byte_after, duration, cause)

    def _first_byte_after(self) -> timedelta | None:
        if self._first_byte_at is None:
            return None
        return timedelta(seconds=self._first_byte_at - self._started_at)

    def _outcome(self, error: UpstreamFailed | Stopped | None) -> AttemptOutcome:
        if error is None:
            return AttemptOutcome.SUCCEEDED
        if isinstance(error, Stopped):
            return AttemptOutcome.CANCELLED
        return AttemptOutcome.INTERRUPTED if self.committed else failed_outcome(error)

    async def _usage(self, outcome: AttemptOutcome, counter: TokenCounter) -> TokenUsage:
        if outcome is AttemptOutcome.REJECTED or not self._sent:
            return NO_USAGE
        reported = self._completion.usage if self._completion is not None else None
        if reported is not None and reported.known is not None:
            return reported
        # An answer that never began is not the client's to pay, and the provider may or may not charge for it. One
        # that was refused is: the route's owner has chosen to ask a cheap model first.
        began = (
            self.committed
            or self._is_refused
            or (outcome is AttemptOutcome.CANCELLED and self._first_byte_at is not None)
        )
        if not began and outcome is not AttemptOutcome.SUCCEEDED:
            return UNKNOWN_USAGE
        return await self._counted_usage(reported, counter)

    async def _counted_usage(self, reported: TokenUsage | None, counter: TokenCounter) -> TokenUsage:
        _, input_tokens, _, details = reported or UNKNOWN_USAGE  # what was read may have been reported before the end
        if input_tokens is None:
            input_tokens = await count_prompt(self._candidate.body, counter)
        output_tokens = await self._count_output(counter)
        unknown = input_tokens is None or output_tokens is None
        return TokenUsage(UsageSource.UNKNOWN if unknown else UsageSource.COUNTED, input_tokens, output_tokens, details)

    async def _count_output(self, counter: TokenCounter) -> int | None:
        texts = self._output.texts()
        if texts is None or (may_hide_reasoning(self._candidate.body) and not self._output.has_reasoning):
            return None
        return await counter.count(texts)
