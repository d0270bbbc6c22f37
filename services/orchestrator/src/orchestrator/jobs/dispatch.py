"""Dispatches jobs that are due to the workers of their pools."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.jobs.fair_share import choose
from orchestrator.jobs.model import RunRef
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.ports import JobStore
from orchestrator.jobs.rounds import Dispatched, DispatchPlan, PoolQueues


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """Runs rounds of dispatches. Every replica may: a round is written by one of them."""

    store: JobStore
    policy: JobPolicy
    on_dispatched: Callable[[str, Sequence[Dispatched]], None] = lambda _pool, _jobs: None
    """Called with what a round has dispatched to a pool, once that is durable."""

    async def run_round(self) -> bool:
        """Dispatch what the pools have room for. Returns whether another round may dispatch more at once."""
        again = False
        for queues in await self.store.waiting():
            plan, more = plan_round(queues)
            if plan is None:
                continue
            dispatched = await self.store.dispatch(plan, self.policy.claim_within)
            self.on_dispatched(queues.pool, dispatched or ())
            again |= more or dispatched is None
        return again


def plan_round(queues: PoolQueues) -> tuple[DispatchPlan | None, bool]:
    """Decide on a round; None when nothing is dispatched. Returns whether there is room for more than was read."""
    choice = choose(queues.slots, queues.lanes)
    lanes: dict[RunRef, str] = {}
    for share in choice.shares:
        for run in queues.heads[share.lane, share.tenant_id][: share.count]:
            lanes[run] = share.lane
    if not lanes:
        return None, False
    plan = DispatchPlan(queues.pool, queues.round, tuple(lanes), lanes, choice.deficits, queues.now)
    return plan, choice.again
