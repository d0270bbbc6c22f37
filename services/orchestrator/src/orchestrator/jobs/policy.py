"""What an installation decides about jobs. The settings describe each of these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator.jobs.model import Lane


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What the jobs of a plan get."""

    lane: Lane = Lane.STANDARD
    pool: str = "default"
    retention: timedelta = timedelta(days=30)
    max_queued: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPolicy:
    """Times and limits of jobs."""

    plans: Mapping[str, JobPlan] = field(default_factory=dict)
    """By name in lower case, as the environment has it."""
    default_plan: JobPlan = JobPlan()
    max_body_bytes: int = 1_000_000
    default_deadline: timedelta = timedelta(hours=24)
    max_deadline: timedelta = timedelta(days=7)
    lease: timedelta = timedelta(seconds=15)
    claim_within: timedelta = timedelta(seconds=30)
    offer_after: timedelta = timedelta(milliseconds=40)
    """A job that no worker has claimed so long after its dispatch is offered to workers that ask."""
    run_timeout: timedelta = timedelta(minutes=30)
    answer_timeout: timedelta = timedelta(minutes=15)
    max_errors: int = 5
    max_crashes: int = 3
    min_backoff: timedelta = timedelta(seconds=1)
    max_backoff: timedelta = timedelta(minutes=5)
    batch_discount_percent: int = 0
    """Taken off the prices of jobs of batches."""

    def plan(self, name: str) -> JobPlan:
        """Return what a tenant's plan gets."""
        return self.plans.get(name.lower(), self.default_plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIntervals:
    """Between two runs of the loops, and what they prepare for."""

    poll: timedelta = timedelta(milliseconds=500)
    reap: timedelta = timedelta(seconds=2)
    partitions: timedelta = timedelta(hours=1)
    days_ahead: int = 33
    """For which results need a partition: the longest retention, and some to spare."""
