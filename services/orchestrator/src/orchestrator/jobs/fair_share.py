"""Chooses which jobs of a pool are dispatched next. Pure: the caller reads the queues, and writes the choice.

A pool has `PLACES_PER_SLOT` places per slot of its workers, for jobs on their way to a worker and jobs that run.

Lanes share the places by weight, 8 : 3 : 1. The next place goes to the lane that uses the least of its share, so a
lane without jobs lends its places to the others. The weight of a lane that has jobs and is not served grows with the
time, so that the batch lane of a pool with one slot has its turn, too. Less urgent lanes never take the last places: a
person's job finds one free even when the other lanes have jobs for days. Workers choose the lane of their next job by
the same rule: if they always took the most urgent lane, the others would starve in the topics.

Tenants share a lane by deficit round robin over the tokens that their jobs can use at most (M. Shreedhar and
G. Varghese, "Efficient Fair Queueing Using Deficit Round Robin", SIGCOMM 1995). A tenant whose credit covers its next
job is served, the one with the most credit first; when no credit does, all tenants that wait get the same more. So a
tenant with a huge job saves for it while the others go on, and is served as soon as it has saved enough. A tenant whose
queue is empty loses its credit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heapify, heappop, heappush
from math import ceil
from typing import NamedTuple

LANE_WEIGHTS: Mapping[str, int] = {"interactive": 8, "standard": 3, "batch": 1}
"""The most urgent lane first."""
PLACES_PER_SLOT = 2
"""One job runs and one is on its way: enough that no slot waits for a dispatch, few enough that order stays exact."""
KEPT_FREE = {"interactive": 0, "standard": 8, "batch": 4}
"""A lane and all below it leave one of so many places free, and at least one, for the lanes above; 0: none."""
AGEING = timedelta(seconds=10)
"""A lane that is not served for so long has twice its weight, after twice this time three times its weight, …"""
MAX_AGEING = 9
"""… until the batch lane has more weight than a fresh interactive one: from then on it cannot be passed over."""


@dataclass(frozen=True, slots=True)
class TenantQueue:
    """The jobs of one tenant that wait in one lane of the pool."""

    tenant_id: str
    costs: Sequence[int]
    """Tokens that its next jobs can use at most, in their order: jobs that are due and not paused."""
    more: bool = False
    """Whether more jobs are due than `costs` has, which has at least one then."""
    queued: int = 0
    """All jobs that wait, also those that are not due yet; at least the number of `costs`."""
    deficit: int = 0
    """Its credit in tokens, as the last choice left it."""
    paused: bool = False
    """It gets nothing, and keeps its credit."""


@dataclass(frozen=True, slots=True)
class LaneQueues:
    """The tenants that wait in one lane of the pool."""

    lane: str
    tenants: Sequence[TenantQueue]
    in_flight: int = 0
    """Jobs of the lane that are dispatched or running."""
    unserved: timedelta = timedelta(0)
    """How long its oldest due job has waited, or the time since the lane's last dispatch if that is shorter."""


class Share(NamedTuple):
    """The next `count` jobs of a tenant's queue are to be dispatched."""

    lane: str
    tenant_id: str
    count: int  # type: ignore[assignment]  # a tuple has a method of this name
    tokens: int
    """What the choice has charged for them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to dispatch, and the credits after it."""

    shares: tuple[Share, ...]
    deficits: Mapping[tuple[str, str], int]
    """New credits by lane and tenant; only those that have changed."""
    again: bool
    """Whether places are left for jobs whose costs were not given: read the queues again, and choose again at once."""

    @property
    def count(self) -> int:
        """The number of jobs."""
        return sum(share.count for share in self.shares)


def choose(slots: int, lanes: Sequence[LaneQueues], limit: int | None = None) -> Choice:
    """Choose at most `limit` jobs, and no more than the pool has free places for.

    `slots` are those that live workers of the pool advertise. Every free place that a lane may take is used when it has
    jobs, except when `again`.
    """
    places = slots * PLACES_PER_SLOT
    served = [_ServedLane(queues, places) for queues in sorted(lanes, key=_urgency)]
    free = places - sum(queues.in_flight for queues in lanes)
    free = free if limit is None else min(free, limit)
    while free > 0:
        open_lanes = [lane for lane in served if lane.may_serve(served) and lane.has_next()]
        if not open_lanes:
            break
        min(open_lanes, key=_ServedLane.used_share).serve()
        free -= 1
    shares = [share for lane in served for share in lane.shares()]
    deficits = {key: deficit for lane in served for key, deficit in lane.deficits()}
    return Choice(tuple(shares), deficits, again=free > 0 and any(lane.stopped for lane in served))


def _urgency(queues: LaneQueues) -> int:
    return list(LANE_WEIGHTS).index(queues.lane)


class _ServedLane:
    """One lane during a choice."""

    def __init__(self, queues: LaneQueues, places: int) -> None:
        self.lane = queues.lane
        self.in_flight = queues.in_flight
        self.stopped = False
        """Whether a tenant is left whose next job has no known cost: the lane would pass it over."""
        kept = KEPT_FREE[queues.lane]
        self.max_places = max(1, places - max(1, places // kept)) if kept else places
        """For it and the lanes below it."""
        age = min(queues.unserved / AGEING, MAX_AGEING)
        self._weight = LANE_WEIGHTS[queues.lane] * (1 + max(0.0, age))
        self._tenants = [_ServedTenant(queue) for queue in queues.tenants]
        self._covered = [tenant for tenant in self._tenants if tenant.is_covered]
        heapify(self._covered)

    def may_serve(self, lanes: Sequence[_ServedLane]) -> bool:
        """Whether places stay free for more urgent lanes. `lanes` are all of the pool, the most urgent first."""
        return all(
            sum(lane.in_flight for lane in lanes[number:]) < lanes[number].max_places
            for number in range(lanes.index(self) + 1)
        )

    def used_share(self) -> float:
        """Its places after it took one more, in relation to its weight."""
        return (self.in_flight + 1) / self._weight

    def has_next(self) -> bool:
        """Whether a job can be taken. Gives credit when no tenant has enough."""
        if not self._covered and not self.stopped:
            self._give_credit()
        return bool(self._covered)

    def serve(self) -> None:
        """Choose the next job of the tenant with the most credit; call it when `has_next`."""
        tenant = heappop(self._covered)
        tenant.serve()
        self.in_flight += 1
        if tenant.is_covered:
            heappush(self._covered, tenant)

    def shares(self) -> list[Share]:
        return [
            Share(self.lane, tenant.queue.tenant_id, tenant.taken, tenant.tokens)
            for tenant in self._tenants
            if tenant.taken
        ]

    def deficits(self) -> Iterable[tuple[tuple[str, str], int]]:
        for tenant in self._tenants:
            if tenant.final_deficit != tenant.queue.deficit:
                yield (self.lane, tenant.queue.tenant_id), tenant.final_deficit

    def _give_credit(self) -> None:
        """Give all that wait the same: the median cost, or as many times that as the first of them needs.

        A smaller quantum would change the credits of all tenants for every job, a larger one would serve the tenants in
        long turns.
        """
        waiting = [tenant for tenant in self._tenants if tenant.has_next]
        # Credit for the others alone would be unfair to a tenant that has jobs, too.
        self.stopped = any(tenant.is_unknown for tenant in self._tenants)
        if not waiting or self.stopped:
            return
        costs = sorted(tenant.next_cost for tenant in waiting)
        quantum = costs[len(costs) // 2]
        least = min(tenant.next_cost - tenant.deficit for tenant in waiting)
        for tenant in waiting:
            tenant.deficit += ceil(least / quantum) * quantum
        self._covered = [tenant for tenant in waiting if tenant.is_covered]
        heapify(self._covered)


@dataclass(slots=True)
class _ServedTenant:
    """One tenant during a choice. Orders by credit, the most first."""

    queue: TenantQueue
    deficit: int = field(init=False)
    taken: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        self.deficit = self.queue.deficit

    def __lt__(self, other: _ServedTenant) -> bool:
        return (-self.deficit, self.queue.tenant_id) < (-other.deficit, other.queue.tenant_id)

    @property
    def has_next(self) -> bool:
        return not self.queue.paused and self.taken < len(self.queue.costs)

    @property
    def is_unknown(self) -> bool:
        """Whether its next job has an unknown cost."""
        return self.queue.more and not self.queue.paused and not self.has_next

    @property
    def next_cost(self) -> int:
        """At least 1: also jobs that use no tokens take turns."""
        return max(1, self.queue.costs[self.taken])

    @property
    def is_covered(self) -> bool:
        return self.has_next and self.next_cost <= self.deficit

    @property
    def final_deficit(self) -> int:
        left = max(self.queue.queued, len(self.queue.costs)) - self.taken
        return self.deficit if left > 0 or self.queue.more else 0

    def serve(self) -> None:
        cost = self.next_cost
        self.taken += 1
        self.tokens += cost
        self.deficit -= cost
