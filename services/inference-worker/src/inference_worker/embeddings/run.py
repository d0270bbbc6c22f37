"""Embedding texts: candidates in order until one answers."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest

from inference_worker.domain.absent import NOWHERE, Absent
from inference_worker.domain.account import Attempt, Outcome
from inference_worker.domain.failures import UpstreamFailed, UpstreamTimedOut
from inference_worker.domain.fallback import following
from inference_worker.domain.plan import Embedding
from inference_worker.domain.ports import Journal, TokenCounter, Upstreams, Vectors
from inference_worker.domain.usage import NOTHING, UNKNOWN, Usage, UsageSource


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors in the order of the inputs, or why there are none; and the account."""

    vectors: tuple[bytes, ...]
    attempts: tuple[Attempt, ...]
    failure: ArgosyError | None


class EmbedRun:
    """Texts being embedded, once. A cancelled run breaks off the upstream call, and its account is lost."""

    def __init__(self, wanted: Embedding, *, upstreams: Upstreams, clock: Clock, journal: Journal) -> None:
        self._wanted = wanted
        self._upstreams = upstreams
        self._clock = clock
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + wanted.deadline.total_seconds()
        self._attempts: list[Attempt] = []
        self._failure: ArgosyError | None = None

    async def vectors(self) -> Embedded:
        """Embed by the first candidate that answers within the deadline, over all attempts."""
        place: int | None = 0
        found = None
        while place is not None:
            found = await self._try(place)
            place = following(self._failure, self._attempts, len(self._wanted.candidates))
            if place is not None and self._loop.time() >= self._due:
                self._failure = UpstreamTimedOut("no upstream answered before the deadline")
                break
        return Embedded(found.vectors if found else (), tuple(self._attempts), self._failure)

    async def _try(self, place: int) -> Vectors | None:
        """One attempt; leaves its failure and its account behind."""
        candidate = self._wanted.candidates[place]
        number = len(self._attempts) + 1
        upstream = self._upstreams.get(candidate.upstream, NOWHERE)
        embedder = upstream.embedder or Absent("this upstream does not embed")
        entry = self._journal.began(candidate, number)
        began_at = self._clock.monotonic()
        found, self._failure = None, None
        outcome, usage = Outcome.CANCELLED, UNKNOWN
        try:
            async with asyncio.timeout_at(self._due):
                found = await embedder.embed(candidate.model, self._wanted.inputs, dimensions=self._wanted.dimensions)
            outcome, usage = Outcome.ANSWERED, await self._usage(found, upstream.counter)
        except TimeoutError:
            outcome, self._failure = Outcome.TIMED_OUT, UpstreamTimedOut("the upstream did not answer in time")
        except (UpstreamFailed, InvalidRequest) as failure:
            outcome, usage = _refusal(failure)
            self._failure = failure
        finally:
            took = timedelta(seconds=self._clock.monotonic() - began_at)
            attempt = Attempt(number, place, outcome, usage, took if found else None, took)
            self._attempts.append(attempt)
            entry.ended(attempt, self._failure)
        return found

    async def _usage(self, found: Vectors, counter: TokenCounter) -> Usage:
        if found.usage is not None:
            return found.usage
        counted = await counter.count(self._wanted.inputs)
        return UNKNOWN if counted is None else Usage(UsageSource.COUNTED, counted, 0)


def _refusal(failure: ArgosyError) -> tuple[Outcome, Usage]:
    if not isinstance(failure, UpstreamFailed) or not failure.may_have_cost:
        return Outcome.REFUSED, NOTHING
    return (Outcome.TIMED_OUT if isinstance(failure, UpstreamTimedOut) else Outcome.CUT), UNKNOWN
