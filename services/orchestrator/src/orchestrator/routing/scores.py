"""How fast candidates answered in the last hour, for the strategy `fastest`. In memory; replicas share their counts."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chassis.clock import Clock

from orchestrator.routing.eligibility import RequestFacts
from orchestrator.routing.model import RouteCandidate
from orchestrator.workers.model import CallOutcome, Candidate, CandidateRole, ProviderCall

PERIOD_SECONDS = 600.0
PERIODS = 6
"""The last hour, in steps of ten minutes."""
MIN_CALLS = 10
"""Fewer tell nothing: until then a candidate is taken for the fastest, so that it gets them."""
FAILURE_SECONDS = 30.0
"""What a failed call counts for, beside its own time: the request waits for another candidate, or has no answer."""
MAX_CANDIDATES = 10_000
MAX_UNSHARED = 1_000
"""Candidates in one message to the other replicas; calls of more are not shared."""


class _Period:
    """The calls of ten minutes."""

    __slots__ = ("calls", "number", "seconds")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = 0
        self.seconds = 0.0


class ScoreCount(NamedTuple):
    """Calls of one candidate, and the seconds that they count for, all together."""

    price_key: str
    stream: bool
    calls: int
    seconds: float


class Scores:
    """Expected seconds until an answer: to the first byte of a stream, to the end of an answer that is not streamed.

    The two are never compared with each other. A candidate's failures count as `FAILURE_SECONDS` each.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._periods: dict[tuple[str, bool], list[_Period]] = {}
        self._unshared: dict[tuple[str, bool], tuple[int, float]] = {}

    def learn(self, candidates: Sequence[Candidate], calls: Sequence[ProviderCall], *, stream: bool) -> None:
        """Count the calls of one request; `candidates` are the plan's.

        A rejection may be the request's own fault. It counts against a candidate only when another one of its role took
        the same request: a fallback for content or context takes what the others are right to refuse. A refusal for
        the request's length or content tells nothing, whoever took it then; nor does what the client ended.
        """
        for one in calls:
            if not 0 <= one.candidate < len(candidates):
                continue
            candidate = candidates[one.candidate]
            if one.outcome is CallOutcome.SUCCEEDED:
                seconds = one.first_byte_seconds if stream else one.seconds
            elif one.outcome is CallOutcome.FAILED or (
                one.outcome is CallOutcome.REJECTED and _is_answered(candidate.role, candidates, calls)
            ):
                seconds = one.seconds + FAILURE_SECONDS
            else:
                continue
            key = candidate.bound.price_key, stream
            self._count(key, 1, seconds)
            if key in self._unshared or len(self._unshared) < MAX_UNSHARED:
                shared, sum_of_seconds = self._unshared.get(key, (0, 0.0))
                self._unshared[key] = shared + 1, sum_of_seconds + seconds

    def delay(self, candidate: RouteCandidate, facts: RequestFacts) -> float:
        """Return the expected seconds, or 0 for a candidate that had fewer than `MIN_CALLS` calls in the last hour."""
        oldest = self._number() - PERIODS
        recent = [one for one in self._periods.get((candidate.price_key, facts.stream), ()) if one.number > oldest]
        calls = sum(one.calls for one in recent)
        return sum(one.seconds for one in recent) / calls if calls >= MIN_CALLS else 0.0

    def take_unshared(self) -> list[ScoreCount]:
        """Return what other replicas do not know yet, and forget that."""
        unshared, self._unshared = self._unshared, {}
        return [ScoreCount(*key, *counted) for key, counted in unshared.items()]

    def add(self, counts: Iterable[ScoreCount]) -> None:
        """Count what other replicas have counted."""
        for one in counts:
            self._count((one.price_key, one.stream), one.calls, one.seconds)

    def _count(self, key: tuple[str, bool], calls: int, seconds: float) -> None:
        if key not in self._periods and len(self._periods) >= MAX_CANDIDATES:
            self._periods.clear()
        periods, number = self._periods.setdefault(key, []), self._number()
        if not periods or periods[-1].number != number:
            periods.append(_Period(number))
            del periods[:-PERIODS]
        periods[-1].calls += calls
        periods[-1].seconds += seconds

    def _number(self) -> int:
        return int(self._clock.monotonic() / PERIOD_SECONDS)


def _is_answered(role: CandidateRole, candidates: Sequence[Candidate], calls: Sequence[ProviderCall]) -> bool:
    """Whether a candidate of this role has answered."""
    return any(
        one.outcome is CallOutcome.SUCCEEDED and candidates[one.candidate].role is role
        for one in calls
        if 0 <= one.candidate < len(candidates)
    )
