"""What a ScaledObject asks for, and the figure that answers it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from chassis.errors import ArgosyError, InvalidRequest, Kind

from orchestrator.jobs.model import Lane
from orchestrator.queues.model import QueueFigures

KNOWN = frozenset({"pool", "lanes", "metric", "target", "scalerAddress"})


class WorkUnknown(ArgosyError, public=False):
    """Jobs wait, and no recent job says how long one takes."""

    kind, reason = Kind.UNAVAILABLE, "WORK_UNKNOWN"


class ScalingMetric(StrEnum):
    """What a replica is to have `target` of."""

    JOBS = "jobs"
    """Jobs that are neither finished nor paused: with the slots of a worker as the target, all of them run at once."""
    WORK_SECONDS = "work_seconds"
    """Seconds that one slot needs for the waiting jobs: slots times the time in which they shall be done."""


DEFAULT_TARGETS: Mapping[ScalingMetric, float] = {ScalingMetric.JOBS: 16, ScalingMetric.WORK_SECONDS: 960}


@dataclass(frozen=True, slots=True)
class ScalingQuery:
    """The metadata of a ScaledObject's trigger."""

    pool: str
    lanes: frozenset[Lane]
    metric: ScalingMetric
    target: float

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> Self:
        """Raises InvalidRequest for anything that would be misread: a wrong figure scales wrongly without a word."""
        unknown = sorted(metadata.keys() - KNOWN)
        if unknown:
            raise InvalidRequest(f"{unknown[0]} is none of {', '.join(sorted(KNOWN))}.", param=unknown[0])
        try:
            metric = ScalingMetric(metadata.get("metric", ScalingMetric.JOBS))
            named = [name.strip() for name in metadata.get("lanes", "").split(",") if name.strip()]
            lanes = frozenset(map(Lane, named)) or frozenset(Lane)
            target = float(metadata.get("target", DEFAULT_TARGETS[metric]))
        except ValueError as error:
            raise InvalidRequest(f"The metadata is invalid: {error}.") from None
        if not 0 < target < float("inf"):
            raise InvalidRequest("target must be a positive number.", param="target")
        return cls(metadata.get("pool", "default"), lanes, metric, target)

    @property
    def metric_name(self) -> str:
        return f"argosy-{self.pool}-{self.metric}".replace("_", "-")

    def value(self, figures: Sequence[QueueFigures]) -> float:
        """Raises WorkUnknown."""
        queues = self._matching(figures)
        if self.metric is ScalingMetric.JOBS:
            return float(sum(queue.unfinished for queue in queues))
        return sum(_work_seconds(queue) for queue in queues)

    def is_active(self, figures: Sequence[QueueFigures]) -> bool:
        return any(queue.unfinished for queue in self._matching(figures))

    def _matching(self, figures: Sequence[QueueFigures]) -> list[QueueFigures]:
        return [queue for queue in figures if queue.pool == self.pool and queue.lane in self.lanes]


def _work_seconds(queue: QueueFigures) -> float:
    if queue.work is None:
        raise WorkUnknown(f"{queue.waiting} jobs wait in {queue.pool}/{queue.lane}, and none has run recently.")
    return queue.work.total_seconds()
