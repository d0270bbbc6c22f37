"""Rounds of dispatches: what a round is decided on, and what it dispatches."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from orchestrator.jobs.fair_share import LaneQueues
from orchestrator.jobs.model import Lane, RunRef

SUSPECT_CRASHES = 2
"""A job that was in so many crashes may have caused them: no other such job of its pool runs beside it."""


class PoolQueues(NamedTuple):
    """All that a dispatch of one pool is decided on."""

    pool: str
    round: int
    """Counts the dispatches of the pool: a decision holds for one round only."""
    slots: int
    """Of its live workers."""
    lanes: tuple[LaneQueues, ...]
    """With due jobs of tenants that are not paused."""
    heads: Mapping[tuple[str, str], tuple[RunRef, ...]]
    """By lane and tenant: the jobs whose costs are in `lanes`, in the same order, with their epochs."""
    now: datetime
    """The store's clock when it was read."""


class DispatchPlan(NamedTuple):
    """What one round of a pool dispatches."""

    pool: str
    round: int
    jobs: tuple[RunRef, ...]
    """With the epochs that were read."""
    lanes: Mapping[RunRef, str]
    """Of each of those jobs."""
    deficits: Mapping[tuple[str, str], int]
    """New credits by lane and tenant."""
    now: datetime
    """When it was decided."""


class Dispatched(NamedTuple):
    """A job that is on its way."""

    run: RunRef
    lane: Lane
    waited: timedelta
    """Since it was due."""


class Room(NamedTuple):
    """The slots of a worker that asks for jobs."""

    slots: int
    free: int
    """Of these, the slots without a job."""


class Offer(NamedTuple):
    """A dispatched job that the worker may claim, as if it had read the record of the dispatch."""

    dispatch: RunRef
    lane: Lane
