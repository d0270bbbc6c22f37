"""Rounds of dispatches: what a round is decided on, and what it dispatches."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from orchestrator.jobs.model import JobKey, Lane, RunRef


class TenantQueue(NamedTuple):
    """The waiting jobs of one tenant in one lane of a pool, for a decision on the next dispatches."""

    tenant_id: str
    lane: Lane
    heads: tuple[tuple[str, int], ...]
    """Id and cost in tokens of the jobs that are due, in the order in which they are dispatched; not all of them."""
    oldest_due_at: datetime
    """Since when the first of them is due."""
    deficit: int
    """The tenant's credit in tokens from earlier rounds."""


class Load(NamedTuple):
    """What is on its way to the workers of a pool, and what they run."""

    slots: int
    """Of its live workers."""
    dispatched: Mapping[Lane, int]
    running: Mapping[Lane, int]


class PoolQueues(NamedTuple):
    """All that a dispatch of one pool is decided on, as of `now`."""

    pool: str
    round: int
    """Counts the dispatches of the pool: a decision holds for one round only."""
    load: Load
    queues: tuple[TenantQueue, ...]
    now: datetime


class Grant(NamedTuple):
    """The next `count` jobs of a queue are dispatched, and its deficit becomes `credit`. A count of 0 sets the credit."""

    tenant_id: str
    lane: Lane
    count: int
    credit: int


class DispatchPlan(NamedTuple):
    """What one round of a pool dispatches."""

    pool: str
    round: int
    jobs: tuple[JobKey, ...]
    credits: tuple[tuple[str, Lane, int], ...]
    """Tenant, lane, and the deficit that it has from now on."""


class Dispatched(NamedTuple):
    """A job that is on its way."""

    run: RunRef
    lane: Lane
    waited: timedelta
    """Since it was due."""
