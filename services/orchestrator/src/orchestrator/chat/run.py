"""One chat completion that is being answered: its buffer, its task, and what the cache has to do with it."""

import asyncio
from collections.abc import Awaitable, Sequence

from values.usage import CacheOutcome

from orchestrator.chat.model import ChatEvent, Finished, Started
from orchestrator.chat.prepare import Draft
from orchestrator.chat.stream import Recording, StreamBuffer
from orchestrator.reservations.attempts import AttemptLog
from orchestrator.reservations.model import Reservation
from orchestrator.response_cache.charge import Charged, stale_attempt
from orchestrator.response_cache.look_up import Lookup
from orchestrator.response_cache.model import Hit
from orchestrator.response_cache.serve import RAW_BYTES_PER_ENTRY_BYTE, ChatCache, helps, keep_if_complete
from orchestrator.usage.model import Attempt, AttemptUsage, CacheUse
from orchestrator.workers.model import Chunk
from orchestrator.workers.model import Finished as PlanFinished


class Run:
    """A request between its draft and its end. Without a lookup it does not use the cache."""

    __slots__ = ("_hit", "_lookup", "buffer", "draft", "soft_limit_passed", "task")

    def __init__(self, draft: Draft, buffer: StreamBuffer[Finished], lookup: Lookup | None) -> None:
        self.draft = draft
        self.buffer = buffer
        self.task: asyncio.Task[None]
        self.soft_limit_passed = False
        self._lookup = lookup
        self._hit: Hit | None = None
        if lookup is not None and lookup.lease is not None:
            buffer.recording = Recording(lookup.lease.max_bytes * RAW_BYTES_PER_ENTRY_BYTE)

    def started(self) -> Started:
        """Return the first event; what the cache did is known when the first chunk is there."""
        sources, warnings = self.draft.sources, self.draft.warnings
        if self._lookup is None:
            return Started(sources, self.soft_limit_passed, warnings)
        if self._hit is None:
            return Started(sources, self.soft_limit_passed, warnings, CacheOutcome.MISS)
        return Started(sources, self.soft_limit_passed, warnings, self._hit.outcome, self._hit.age_seconds)

    async def to_its_end(self, work: Awaitable[Finished]) -> None:
        """Do the work, and deliver its end or its error to the reader."""
        try:
            self.buffer.end(await work)
        except BaseException as error:
            self.buffer.fail(error)
            raise
        finally:
            self.release()

    def release(self) -> None:
        """Let another request make the answer, unless it is kept."""
        if self._lookup is not None and self._lookup.lease is not None:
            self._lookup.lease.release()

    @property
    def usage_payload(self) -> bytes:
        """That of the cached answer which is given."""
        return b"" if self._hit is None else self._hit.answer.usage_payload

    @property
    def warnings(self) -> Sequence[str]:
        """Those of the cached answer which is given."""
        return () if self._hit is None else self._hit.answer.warnings

    def client_got(self, finished: PlanFinished) -> bool:
        """Whether the client got the answer of the last provider call, or its beginning, or left before it could."""
        if finished.error is None or self.buffer.disconnected:
            return True
        return self.draft.request.stream and self.buffer.used

    async def give_stale(
        self, finished: PlanFinished, reservation: Reservation, cache: ChatCache | None
    ) -> AttemptUsage | None:
        """Give a stale answer instead of an error before the first byte; return what stands for it in the ledger."""
        stale = None if self._lookup is None else self._lookup.stale
        if cache is None or self._lookup is None or stale is None or self.buffer.used or not helps(finished.error):
            return None
        # It was found before the provider calls, which may have taken long.
        if await cache.cache.is_purged(self._lookup.key, stale.answer.created_ms):
            return None
        self._hit = stale
        self.buffer.fill(stale.answer.payloads)
        number = max((attempt.number for attempt in finished.attempts), default=0) + 1
        return stale_attempt(number, stale, reservation)

    def use(self, stale: AttemptUsage | None) -> CacheUse | None:
        """Return what the usage event says of the cache."""
        if self._lookup is None:
            return None
        model = self.draft.route.model
        return (
            CacheUse(CacheOutcome.MISS, model) if stale is None else CacheUse(CacheOutcome.STALE, model, stale.number)
        )

    def keep(self, finished: PlanFinished, attempts: AttemptLog) -> None:
        """Keep the answer of a plan for later requests, if it is whole."""
        lease = None if self._lookup is None else self._lookup.lease
        recording = self.buffer.recording
        if lease is None or recording is None or (answered := _answering(finished)) is None:
            return
        keep_if_complete(
            lease,
            recording.payloads,
            finished.usage_payload,
            answered.usage,
            attempts.reservation.prices[answered.candidate],
            answers=self.draft.chat.answers,
            stream=self.draft.request.stream,
            warnings=finished.warnings,
        )


def cached_events(draft: Draft, charged: Charged) -> tuple[ChatEvent, ...]:
    """Return the events of a cached answer."""
    hit, answer = charged.hit, charged.hit.answer
    return (
        Started(draft.sources, charged.soft_limit_passed, draft.warnings, hit.outcome, hit.age_seconds),
        Chunk(answer.payloads),
        Finished(answer.usage, charged.cost, None, answer.usage_payload, answer.warnings),
    )


def _answering(finished: PlanFinished) -> Attempt | None:
    """Return the provider call that gave the answer: the last one that used tokens, or may have."""
    if finished.error is not None:
        return None
    used = [attempt for attempt in finished.attempts if attempt.usage.known != (0, 0)]
    return max(used, key=lambda attempt: attempt.number, default=None)
