"""Names jobs to workers as they are dispatched, while the consumers of their pool settle after one of them has ended.

The connection of a worker that dies ends at once, where Kafka takes the session's time-out to notice. Until then, and
through the rebalance that follows, records in its partitions reach no worker.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from orchestrator.jobs.offers.ports import PushSignals
from orchestrator.jobs.rounds import Dispatched, Offer

SETTLING_SECONDS = 10.0
"""The session of a consumer (6 s), then the rebalance."""
LIVE_SECONDS = 15.0
"""As long as a lease without a heartbeat."""


@dataclass(slots=True)
class _Pool:
    seen_at: dict[str, float] = field(default_factory=dict)
    """Of workers with slots, by id."""
    settles_at: float = 0.0
    turns: Iterator[int] = field(default_factory=count)

    def live(self, now: float) -> list[str]:
        """Return the live workers, and forget the others."""
        self.seen_at = {worker: at for worker, at in self.seen_at.items() if now - at < LIVE_SECONDS}
        return list(self.seen_at)


class OfferPush:
    """What one replica knows of the workers: those whose heartbeats it has received, and those that have ended.

    A job that is named so has its record as well. The first claim has it, and the other one is refused.
    """

    def __init__(self, signals: PushSignals, monotonic: Callable[[], float]) -> None:
        self._signals = signals
        self._monotonic = monotonic
        self._pools: dict[str, _Pool] = {}

    def seen(self, worker_id: str, pool: str, slots: int) -> None:
        """A worker has sent a heartbeat; 0 slots while it drains."""
        seen_at = self._pools.setdefault(pool, _Pool()).seen_at
        if slots > 0:
            seen_at[worker_id] = self._monotonic()
        else:
            seen_at.pop(worker_id, None)

    def disconnected(self, worker_id: str, pool: str) -> None:
        """The connection of a worker to this replica has ended, and it was the worker's end."""
        self.ended(worker_id, pool)
        self._signals.ended(worker_id, pool)

    def ended(self, worker_id: str, pool: str) -> None:
        """A worker has ended, as this replica or another has found. It may come back: then a heartbeat says so."""
        known = self._pools.setdefault(pool, _Pool())
        known.seen_at.pop(worker_id, None)
        now = self._monotonic()
        known.settles_at = now + SETTLING_SECONDS
        # What is on its way already they find by asking.
        for other in known.live(now):
            self._signals.offer(other, pool, ())

    def dispatched(self, pool: str, jobs: Sequence[Dispatched]) -> None:
        """Jobs were dispatched: while their pool settles, name each to one of its workers, in turn."""
        known, now = self._pools.get(pool), self._monotonic()
        if known is None or now >= known.settles_at or not jobs:
            return
        workers = known.live(now)
        if not workers:
            return
        offers: dict[str, list[Offer]] = {}
        for job in jobs:
            worker = workers[next(known.turns) % len(workers)]
            offers.setdefault(worker, []).append(Offer(job.run, job.lane))
        for worker, named in offers.items():
            self._signals.offer(worker, pool, named)
