"""Rounds of dispatches: what a round is decided on, and what it dispatches."""

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from orchestrator.jobs.fair_share import LaneQueues
from orchestrator.jobs.model import JobKey, Lane, RunRef


class PoolQueues(NamedTuple):
    """All that a dispatch of one pool is decided on."""

    pool: str
    round: int
    """Counts the dispatches of the pool: a decision holds for one round only."""
    slots: int
    """Of its live workers."""
    lanes: tuple[LaneQueues, ...]
    """With due jobs of tenants that are not paused."""
    heads: Mapping[tuple[str, str], tuple[str, ...]]
    """By lane and tenant: ids of the jobs whose costs are in `lanes`, in the same order."""


class DispatchPlan(NamedTuple):
    """What one round of a pool dispatches."""

    pool: str
    round: int
    jobs: tuple[JobKey, ...]
    deficits: Mapping[tuple[str, str], int]
    """New credits by lane and tenant."""


class Dispatched(NamedTuple):
    """A job that is on its way."""

    run: RunRef
    lane: Lane
    waited: timedelta
    """Since it was due."""
