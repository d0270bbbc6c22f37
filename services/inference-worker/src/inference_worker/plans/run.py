"""Running a plan: candidates in order until one answers."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.errors import ArgosyError

from inference_worker.domain.absent import NOWHERE, Absent
from inference_worker.domain.account import Attempt
from inference_worker.domain.failures import Stopped, UpstreamFailed, UpstreamTimedOut
from inference_worker.domain.fallback import following
from inference_worker.domain.leash import Leash
from inference_worker.domain.plan import Plan
from inference_worker.domain.ports import Journal, Upstreams
from inference_worker.domain.trial import Trial


@dataclass(frozen=True, slots=True)
class Started:
    """A candidate begins to answer; from here on there is no fallback."""

    candidate: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Provider bytes that arrived together."""

    payloads: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a plan, good or bad."""

    attempts: tuple[Attempt, ...]
    failure: ArgosyError | None
    usage_payload: bytes = b""


Say = Callable[[Started | Chunk], Awaitable[None]]
"""Hands a step on; as long as it is awaited the provider is not read."""


class PlanRun:
    """One plan being run, once. Await `run`; call `stop` from anywhere on the same loop."""

    __slots__ = ("_attempts", "_clock", "_due", "_failure", "_journal", "_leash", "_plan", "_trial", "_upstreams")

    def __init__(self, plan: Plan, *, upstreams: Upstreams, clock: Clock, journal: Journal) -> None:
        self._plan = plan
        self._upstreams = upstreams
        self._clock = clock
        self._journal = journal
        self._leash = Leash()
        self._due = self._leash.now() + plan.deadline.total_seconds()
        self._trial: Trial | None = None
        self._attempts: list[Attempt] = []
        self._failure: ArgosyError | None = None

    def stop(self, reason: Stopped | None = None) -> None:
        """Break off the provider call at once; `run` then ends with its account. Without effect after the end."""
        self._leash.stop(reason or Stopped())
        if self._trial is not None:
            self._trial.abort()

    async def run(self, say: Say) -> Finished:
        """Say `Started` once before the first chunk, and chunks; return the account, whatever happens.

        Cancelled, or when `say` raises, it breaks off the provider call too, but the account is lost.
        """
        place: int | None = 0
        try:
            while place is not None:
                await self._try(place, say)
                place = self._next()
        finally:
            self._leash.release()
        payload = self._trial.usage_payload if self._trial is not None else b""
        return Finished(tuple(self._attempts), self._failure, payload)

    def _next(self) -> int | None:
        """Which candidate to try after the last attempt; None when the plan is over."""
        place = following(self._failure, self._attempts, len(self._plan.candidates))
        if place is None or self._leash.stopped:
            return None
        if self._leash.now() >= self._due:
            self._failure = UpstreamTimedOut("no upstream answered before the deadline")
            return None
        return place

    async def _try(self, place: int, say: Say) -> None:
        """One attempt; leaves its failure and its account behind, even when it is abandoned."""
        candidate = self._plan.candidates[place]
        number = len(self._attempts) + 1
        upstream = self._upstreams.get(candidate.upstream, NOWHERE)
        trial = self._trial = Trial(
            candidate,
            upstream.provider or Absent("this upstream does not chat"),
            plan=self._plan,
            due=self._due,
            leash=self._leash,
            clock=self._clock,
        )
        entry = self._journal.began(candidate, number)
        attempt: Attempt | None = None
        self._failure = None
        try:
            self._failure = await _hand_on(trial, place, say)
            trial.abort()
            attempt = await trial.account(number, place, self._failure, upstream.counter)
        finally:
            trial.abort()
            if attempt is None:
                attempt = trial.abandoned(number, place)
            self._attempts.append(attempt)
            entry.ended(attempt, self._failure)


async def _hand_on(trial: Trial, place: int, say: Say) -> UpstreamFailed | Stopped | None:
    """Everything that a candidate answers; returns what ended it if it was not its end."""
    try:
        payloads = await trial.read()
        await say(Started(place))
        while payloads:
            await say(Chunk(payloads))
            payloads = await trial.read()
    except (UpstreamFailed, Stopped) as failure:
        return failure
    return None
