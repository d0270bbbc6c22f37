"""Settings of jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from chassis.settings import Section
from pydantic import Field

from orchestrator.jobs.model import Lane
from orchestrator.jobs.policy import JobIntervals, JobPlan, JobPolicy

MAX_RETENTION_DAYS = 365
"""A partition a day: more of them make each insertion slower to plan."""

Timeout = Annotated[timedelta, Field(gt=timedelta(0))]


class JobPlanSection(Section):
    """What the jobs of a plan get."""

    lane: Lane = Field(Lane.STANDARD, description="Its lane, which a job may lower: interactive, standard or batch.")
    pool: str = Field(
        "default", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="Whose workers run its jobs; part of topic names."
    )
    retention_days: int = Field(30, ge=1, le=MAX_RETENTION_DAYS, description="Days for which results are kept.")
    max_queued: int = Field(100_000, ge=1, description="The most jobs of one tenant that wait at a time.")


class JobsSection(Section):
    """Jobs: requests that are accepted now and run later."""

    plans: dict[str, JobPlanSection] = Field(
        {},
        description="By plan, as JSON: lane, pool, retention_days, max_queued. The plan `default` is for all other "
        "tenants.",
    )
    max_body_bytes: int = Field(1_000_000, ge=1, le=15_000_000, description="The most bytes of a job's body.")
    default_deadline: Timeout = Field(timedelta(hours=24), description="Until a job without a deadline fails.")
    max_deadline: Timeout = Field(timedelta(days=7), description="The longest that a client may ask for.")
    lease: Timeout = Field(
        timedelta(seconds=15),
        description="Without a heartbeat for so long, a worker counts as dead, and its jobs run again.",
    )
    claim_within: Timeout = Field(
        timedelta(seconds=30),
        description="A job that no worker has claimed so long after its dispatch is queued again.",
    )
    offer_after: Timeout = Field(
        timedelta(milliseconds=40),
        description="A job that no worker has claimed so long after its dispatch is offered to workers that ask.",
    )
    run_timeout: Timeout = Field(timedelta(minutes=30), description="For one run, over all its provider calls.")
    answer_timeout: Timeout = Field(
        timedelta(minutes=15), description="For an answer that is not streamed; then the next upstream is tried."
    )
    max_errors: int = Field(5, ge=1, le=100, description="Runs that fail before a job fails.")
    max_crashes: int = Field(3, ge=1, le=100, description="Workers that die before a job is quarantined.")
    min_backoff: Timeout = Field(timedelta(seconds=1), description="The longest pause after a job's first error.")
    max_backoff: Timeout = Field(
        timedelta(minutes=5), description="The longest pause after any; it doubles until then."
    )
    poll_interval: Timeout = Field(
        timedelta(milliseconds=500), description="Between two dispatches that nothing has asked for."
    )
    reap_interval: Timeout = Field(timedelta(seconds=2), description="Between two searches for dead runs.")
    partition_interval: Timeout = Field(
        timedelta(hours=1), description="Between two checks for partitions of results to make or to drop."
    )

    events_ttl: timedelta = Field(
        timedelta(hours=1),
        ge=timedelta(seconds=10),
        description="How long the events of a job are kept in Redis after the last of them; after its end, 5 minutes.",
    )

    def policy(self, batch_discount_percent: int = 0) -> JobPolicy:
        plans = {
            name.lower(): JobPlan(plan.lane, plan.pool, timedelta(days=plan.retention_days), plan.max_queued)
            for name, plan in self.plans.items()
        }
        return JobPolicy(
            plans=plans,
            default_plan=plans.get("default", JobPlan()),
            max_body_bytes=self.max_body_bytes,
            default_deadline=self.default_deadline,
            max_deadline=self.max_deadline,
            lease=self.lease,
            claim_within=self.claim_within,
            offer_after=self.offer_after,
            run_timeout=self.run_timeout,
            answer_timeout=self.answer_timeout,
            max_errors=self.max_errors,
            max_crashes=self.max_crashes,
            min_backoff=self.min_backoff,
            max_backoff=self.max_backoff,
            batch_discount_percent=batch_discount_percent,
        )

    def intervals(self) -> JobIntervals:
        days = max(plan.retention_days for plan in (JobPlanSection(), *self.plans.values()))
        return JobIntervals(
            poll=self.poll_interval, reap=self.reap_interval, partitions=self.partition_interval, days_ahead=days + 3
        )
