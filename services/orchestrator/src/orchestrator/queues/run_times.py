"""How long jobs run, as a mean in which old jobs count less and less."""

from datetime import datetime, timedelta
from typing import Final

HALF_LIFE: Final = timedelta(minutes=2)


class RunTimes:
    """Means by pool and lane. One that had no job for long keeps its last mean, which is the best guess."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], _Mean] = {}

    def add(self, pool: str, lane: str, jobs: int, total: timedelta, now: datetime) -> None:
        """Add jobs that ended by `now` and ran for `total` together."""
        self._means.setdefault((pool, lane), _Mean(now)).add(jobs, total.total_seconds(), now)

    def mean(self, pool: str, lane: str) -> timedelta | None:
        """Return the mean; None before the first job."""
        known = self._means.get((pool, lane))
        return None if known is None else timedelta(seconds=known.seconds / known.jobs)


class _Mean:
    def __init__(self, now: datetime) -> None:
        self.jobs = self.seconds = 0.0
        self._now = now

    def add(self, jobs: int, seconds: float, now: datetime) -> None:
        kept = 0.5 ** max(0.0, (now - self._now) / HALF_LIFE)
        self.jobs, self.seconds, self._now = self.jobs * kept + jobs, self.seconds * kept + seconds, now
