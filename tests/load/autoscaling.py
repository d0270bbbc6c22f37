"""A day of jobs, scaled by the metric of this version: `python -m tests.load.autoscaling`.

Virtual time in steps of a second. The metric is the orchestrator's own (`ScalingQuery`), read as KEDA reads it every
`POLLING` seconds; the replicas are those of the formula of `autoscaling/v2` with the behaviour that the chart writes:
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ (tolerance, stabilization, policies).

The oracle knows the load: at each second it has as many replicas as the jobs need that run if none ever waits, but no
less than the minimum. Its replicas start and stop at once.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from orchestrator.autoscaling.model import ScalingQuery
from orchestrator.jobs.model import Lane
from orchestrator.queues.model import QueueFigures

DAY = 86_400
SLOTS = 16
JOB_SECONDS = 8
POLLING, SYNC = 5, 15
"""Of KEDA, by the chart, and of the controller's default."""
START_SECONDS = 25
"""From a new replica to its first job: image present, process started, ready."""
TOLERANCE = 0.1
SCALE_DOWN_WINDOW = 120
"""`global.autoscaling.scaleDownSeconds` of the chart."""
MIN_REPLICAS, MAX_REPLICAS = 2, 40
SLA_SECONDS = 60.0
"""95 of 100 jobs begin within these."""

Load = Callable[[int], float]
"""Jobs per second at a second of the day."""


def step(second: int) -> float:
    """A working day: from nine to five five times the load of the night."""
    return 20.0 if 9 * 3600 <= second < 17 * 3600 else 4.0


def sine(second: int) -> float:
    """A smooth day, with its peak at noon."""
    return 12.0 - 9.0 * math.cos(2 * math.pi * second / DAY)


def spikes(second: int) -> float:
    """An even load, and every three hours five times as much for five minutes."""
    return 25.0 if second % (3 * 3600) < 300 else 5.0


def constant(second: int) -> float:
    """Always the same, but for chance."""
    return 12.0


LOADS: Mapping[str, Load] = {"constant": constant, "step": step, "sine": sine, "spikes": spikes}


class Queue:
    """Jobs that wait and run, by the second of their arrival."""

    def __init__(self) -> None:
        self.waits: dict[int, int] = {}
        """Jobs by the seconds that they waited."""
        self._waiting: deque[tuple[int, int]] = deque()
        self._ends = [0] * (JOB_SECONDS + 1)
        self.waiting = self.running = 0

    def arrive(self, second: int, count: int) -> None:
        if count:
            self._waiting.append((second, count))
            self.waiting += count

    def run(self, second: int, slots: int) -> None:
        """End what is done, and begin what has a slot."""
        place = second % len(self._ends)
        self.running -= self._ends[place]
        self._ends[place] = 0
        free = slots - self.running
        while free > 0 and self._waiting:
            arrived, count = self._waiting.popleft()
            begun = min(count, free)
            if begun < count:
                self._waiting.appendleft((arrived, count - begun))
            free -= begun
            self.waiting -= begun
            self.running += begun
            self.waits[second - arrived] = self.waits.get(second - arrived, 0) + begun
            self._ends[(second + JOB_SECONDS) % len(self._ends)] += begun

    def figures(self) -> QueueFigures:
        return QueueFigures(pool="default", lane=Lane.STANDARD, queued=self.waiting, running=self.running)


class Autoscaler:
    """The formula of `autoscaling/v2` for one external metric with an average value."""

    def __init__(self) -> None:
        self.replicas = MIN_REPLICAS
        self.changes: list[tuple[int, int]] = []
        self._recommended: deque[tuple[int, int]] = deque()
        self._down: deque[tuple[int, int]] = deque()
        """Replicas that were taken away, for the policy of half of them a minute."""

    def sync(self, second: int, value: float, target: float) -> None:
        """Decide on the replicas, as the controller does every `SYNC` seconds."""
        wanted = self._recommend(second, value / target)
        if wanted == self.replicas:
            return
        if wanted < self.replicas:
            self._down.append((second, self.replicas - wanted))
        self.replicas = wanted
        self.changes.append((second, wanted))

    def _recommend(self, second: int, needed: float) -> int:
        inside = abs(1.0 - needed / self.replicas) <= TOLERANCE
        wanted = self.replicas if inside else math.ceil(needed)
        wanted = max(MIN_REPLICAS, min(MAX_REPLICAS, wanted))
        self._recommended.append((second, wanted))
        while self._recommended[0][0] <= second - SCALE_DOWN_WINDOW:
            self._recommended.popleft()
        if wanted > self.replicas:
            return min(wanted, max(2 * self.replicas, self.replicas + 4))
        stable = min(self.replicas, max(recommended for _, recommended in self._recommended))
        while self._down and self._down[0][0] <= second - 60:
            self._down.popleft()
        at_begin = self.replicas + sum(count for _, count in self._down)
        return max(stable, math.ceil(at_begin / 2))


class Workers:
    """Replicas that are ready. A new one takes `START_SECONDS`; one that goes hands its jobs back, or ends them."""

    def __init__(self) -> None:
        self.ready = MIN_REPLICAS
        self._starting: deque[int] = deque()

    def follow(self, second: int, replicas: int) -> int:
        """Return the replicas that are paid for."""
        while self.ready + len(self._starting) < replicas:
            self._starting.append(second + START_SECONDS)
        while self.ready + len(self._starting) > replicas:
            if self._starting:
                self._starting.pop()
            else:
                self.ready -= 1
        while self._starting and self._starting[0] <= second:
            self._starting.popleft()
            self.ready += 1
        return self.ready + len(self._starting)


@dataclass(frozen=True, slots=True)
class Day:
    """What a day came to."""

    jobs: int
    p95_wait: float
    within_sla: float
    """Part of the jobs."""
    replica_seconds: int
    oracle_seconds: int
    turns: int
    """Changes of direction: up after down, or down after up."""

    @property
    def ratio(self) -> float:
        return self.replica_seconds / self.oracle_seconds


def simulate(load: Load, seed: int = 1) -> Day:
    """Run a day of virtual time. Jobs arrive by chance, independently of one another (Poisson)."""
    chance = np.random.default_rng(seed)
    arrivals = chance.poisson([load(second) for second in range(DAY)]).tolist()
    query = ScalingQuery.read({"pool": "default", "target": str(SLOTS)})
    queue, autoscaler, workers = Queue(), Autoscaler(), Workers()
    value, paid = 0.0, 0
    for second in range(DAY):
        queue.arrive(second, arrivals[second])
        queue.run(second, SLOTS * workers.ready)
        if second % POLLING == 0:
            value = query.value([queue.figures()])
        if second % SYNC == 0:
            autoscaler.sync(second, value, query.target)
        paid += workers.follow(second, autoscaler.replicas)
    return Day(
        sum(queue.waits.values()),
        _quantile(queue.waits, 0.95),
        sum(count for wait, count in queue.waits.items() if wait <= SLA_SECONDS) / sum(queue.waits.values()),
        paid,
        sum(_oracle(arrivals)),
        _turns([replicas for _, replicas in autoscaler.changes]),
    )


def _oracle(arrivals: Sequence[int]) -> Iterator[int]:
    running = 0
    for second in range(DAY):
        running += arrivals[second] - (arrivals[second - JOB_SECONDS] if second >= JOB_SECONDS else 0)
        yield max(MIN_REPLICAS, math.ceil(running / SLOTS))


def _quantile(waits: Mapping[int, int], part: float) -> float:
    left = part * sum(waits.values())
    for wait in sorted(waits):
        left -= waits[wait]
        if left <= 0:
            return float(wait)
    return 0.0


def _turns(replicas: list[int]) -> int:
    ups = [after > before for before, after in zip([MIN_REPLICAS, *replicas], replicas, strict=False)]
    return sum(one is not other for one, other in pairwise(ups))


def main() -> None:
    print("load          jobs  p95 wait   in SLA  replica-s    oracle  ratio  turns")
    for name, load in LOADS.items():
        day = simulate(load)
        print(
            f"{name:8} {day.jobs:9,} {day.p95_wait:7.0f} s {day.within_sla:8.2%} {day.replica_seconds:10,} "
            f"{day.oracle_seconds:9,} {day.ratio:6.2f} {day.turns:6}"
        )


if __name__ == "__main__":
    main()
