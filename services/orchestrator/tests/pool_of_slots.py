"""A pool of workers in virtual time, whose jobs the dispatcher's choice brings to free slots."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush
from itertools import islice

from orchestrator.jobs.fair_share import AGEING, LANE_WEIGHTS, MAX_AGEING, LaneQueues, TenantQueue, choose


@dataclass
class Pool:
    """Slots that run jobs in virtual time; jobs last as long as they have tokens, a thousandth of a second each."""

    slots: int
    heads: int = 16
    now: float = 0.0
    waiting: dict[tuple[str, str], deque[tuple[float, int]]] = field(default_factory=lambda: defaultdict(deque))
    deficits: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    on_the_way: dict[str, deque[tuple[str, int, float]]] = field(default_factory=lambda: defaultdict(deque))
    running: list[tuple[float, str]] = field(default_factory=list)
    flying: Counter[str] = field(default_factory=Counter)
    served_at: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    served: Counter[str] = field(default_factory=Counter)
    """Tokens by tenant."""
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds from the submission to the start, by lane."""
    starts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def submit(self, lane: str, tenant: str, costs: Iterable[int]) -> None:
        self.waiting[lane, tenant].extend((self.now, cost) for cost in costs)

    def lanes(self) -> list[LaneQueues]:
        found = []
        for lane in LANE_WEIGHTS:
            queues = {tenant: jobs for (other, tenant), jobs in self.waiting.items() if other == lane and jobs}
            oldest = max((self.now - jobs[0][0] for jobs in queues.values()), default=0.0)
            unserved = min(oldest, self.now - self.served_at[lane])
            tenants = [
                TenantQueue(
                    tenant,
                    [cost for _, cost in islice(jobs, self.heads)],
                    more=len(jobs) > self.heads,
                    queued=len(jobs),
                    deficit=self.deficits[lane, tenant],
                )
                for tenant, jobs in queues.items()
            ]
            found.append(LaneQueues(lane, tenants, self.flying[lane], timedelta(seconds=unserved)))
        return found

    def dispatch(self) -> None:
        again = True
        while again:
            choice = choose(self.slots, self.lanes())
            again = choice.again
            self.deficits.update(choice.deficits)
            for share in choice.shares:
                for _ in range(share.count):
                    submitted, cost = self.waiting[share.lane, share.tenant_id].popleft()
                    self.on_the_way[share.lane].append((share.tenant_id, cost, submitted))
                self.flying[share.lane] += share.count
                self.served_at[share.lane] = self.now

    def start(self) -> None:
        """As workers do: a free slot takes a job of the lane that uses the least of its share, with ageing."""
        while len(self.running) < self.slots and any(self.on_the_way.values()):
            lane = min((lane for lane, jobs in self.on_the_way.items() if jobs), key=self.used_share)
            tenant, cost, submitted = self.on_the_way[lane].popleft()
            self.served[tenant] += cost
            self.waits[lane].append(self.now - submitted)
            self.starts[lane].append(self.now)
            heappush(self.running, (self.now + cost / 1000, lane))

    def used_share(self, lane: str) -> float:
        since = self.starts[lane][-1] if self.starts[lane] else 0.0
        weight = LANE_WEIGHTS[lane] * (1 + min((self.now - since) / AGEING.total_seconds(), MAX_AGEING))
        return (1 + sum(running == lane for _, running in self.running)) / weight

    def step(self) -> None:
        """Dispatch, start, and let the next job end."""
        self.dispatch()
        self.start()
        if self.running:
            self.now, lane = heappop(self.running)
            self.flying[lane] -= 1
