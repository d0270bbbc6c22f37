"""One attempt while it runs: open, read, and the account of it."""

from collections.abc import Sequence
from datetime import timedelta

from chassis.clock import Clock

from inference_worker.domain.account import Attempt, Outcome
from inference_worker.domain.failures import Stopped, UpstreamFailed, UpstreamTimedOut
from inference_worker.domain.leash import Leash, Overdue
from inference_worker.domain.plan import Candidate, Plan
from inference_worker.domain.ports import Answer, Provider, TokenCounter
from inference_worker.domain.transcript import Transcript, prompt_overhead, prompt_texts
from inference_worker.domain.usage import NOTHING, UNKNOWN, Usage, UsageSource


class Trial:
    """One candidate being tried, within what is left of the plan's time."""

    __slots__ = (
        "_answer",
        "_began_at",
        "_candidate",
        "_clock",
        "_due",
        "_first_byte_at",
        "_first_due",
        "_idle_seconds",
        "_leash",
        "_provider",
        "_said",
        "_sent",
        "_stream",
    )

    def __init__(
        self, candidate: Candidate, provider: Provider, *, plan: Plan, due: float, leash: Leash, clock: Clock
    ) -> None:
        """`due` is the plan's end by the leash's time."""
        self._candidate = candidate
        self._provider = provider
        self._stream = plan.stream
        self._leash = leash
        self._clock = clock
        self._began_at = clock.monotonic()
        self._first_byte_at: float | None = None
        self._first_due = min(due, leash.now() + plan.first_byte_timeout.total_seconds())
        self._idle_seconds = plan.idle_timeout.total_seconds()
        self._due = due
        self._sent = False
        self._answer: Answer | None = None
        self._said = Transcript()

    @property
    def answers(self) -> bool:
        """Whether a byte of the answer has arrived: from then on there is no fallback."""
        return self._first_byte_at is not None

    async def read(self) -> Sequence[bytes]:
        """The next payloads; empty at the end. Raises an `UpstreamFailed`, or `Stopped`."""
        try:
            with self._leash.until(self._next_due()):
                if self._answer is None:
                    self._sent = True
                    self._answer = await self._provider.open(self._candidate, stream=self._stream)
                payloads = await self._answer.read()
        except Overdue:
            raise UpstreamTimedOut(
                "the upstream fell silent" if self.answers else "the upstream did not answer in time"
            ) from None
        if payloads:
            if self._first_byte_at is None:
                self._first_byte_at = self._clock.monotonic()
            self._said.add(payloads)
        return payloads

    def _next_due(self) -> float:
        if self._first_byte_at is None:
            return self._first_due
        return min(self._due, self._leash.now() + self._idle_seconds)

    def abort(self) -> None:
        """Break off what is left of the answer, at once."""
        if self._answer is not None:
            self._answer.abort()

    @property
    def usage_payload(self) -> bytes:
        """What the provider said last, if it held nothing but usage."""
        return self._answer.usage_payload if self._answer is not None else b""

    async def account(
        self, number: int, place: int, failure: UpstreamFailed | Stopped | None, counter: TokenCounter
    ) -> Attempt:
        """How it ended and what it used, counted if the provider did not say."""
        duration = self._clock.monotonic() - self._began_at
        outcome = self._outcome(failure)
        return Attempt(
            number=number,
            candidate=place,
            outcome=outcome,
            usage=await self._usage(outcome, counter),
            first_byte_after=self._first_byte_after(),
            duration=timedelta(seconds=duration),
        )

    def abandoned(self, number: int, place: int) -> Attempt:
        """The account when the caller is gone and nobody waits for a count."""
        duration = timedelta(seconds=self._clock.monotonic() - self._began_at)
        return Attempt(number, place, Outcome.CANCELLED, UNKNOWN, self._first_byte_after(), duration)

    def _first_byte_after(self) -> timedelta | None:
        if self._first_byte_at is None:
            return None
        return timedelta(seconds=self._first_byte_at - self._began_at)

    def _outcome(self, failure: UpstreamFailed | Stopped | None) -> Outcome:
        if failure is None:
            return Outcome.ANSWERED
        if isinstance(failure, Stopped):
            return Outcome.CANCELLED
        if self.answers:
            return Outcome.CUT
        if not failure.may_have_cost:
            return Outcome.REFUSED
        return Outcome.TIMED_OUT if isinstance(failure, UpstreamTimedOut) else Outcome.CUT

    async def _usage(self, outcome: Outcome, counter: TokenCounter) -> Usage:
        if outcome is Outcome.REFUSED or not self._sent:
            return NOTHING
        said = self._answer.usage if self._answer is not None else None
        if said is not None and said.input_tokens is not None and said.output_tokens is not None:
            return said
        # Without a byte nobody knows whether the provider had begun to read the prompt.
        if not self.answers and outcome is not Outcome.ANSWERED:
            return UNKNOWN
        return await self._counted(said, counter)

    async def _counted(self, said: Usage | None, counter: TokenCounter) -> Usage:
        read = said.input_tokens if said is not None else None
        if read is None:
            read = await _count_prompt(self._candidate.body, counter)
        texts = self._said.texts()
        written = None if texts is None else await counter.count(texts)
        if read is None or written is None:
            return Usage(UsageSource.UNKNOWN, read, written)
        return Usage(UsageSource.COUNTED, read, written)


async def _count_prompt(body: bytes, counter: TokenCounter) -> int | None:
    texts = prompt_texts(body)
    counted = None if texts is None else await counter.count(texts)
    return None if counted is None else counted + prompt_overhead(body)
