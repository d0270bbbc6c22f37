"""Which jobs are dispatched next: lanes by weight, and tenants by the tokens that their jobs can use. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from orchestrator.jobs.model import Lane
from orchestrator.jobs.rounds import Grant, Load, TenantQueue


class Room(NamedTuple):
    """How many jobs a pool takes now: in all, and at most of each lane."""

    total: int
    lanes: Mapping[Lane, int]


def room_of(load: Load) -> Room:
    """Keep twice as many jobs on their way and running as there are slots; a part of it is for the urgent lane only."""
    total = 2 * load.slots - sum(load.dispatched.values()) - sum(load.running.values())
    depth = {
        Lane.INTERACTIVE: 2 * load.slots,
        Lane.STANDARD: load.slots,
        Lane.BATCH: max(min(load.slots, 1), load.slots // 2),
    }
    return Room(total, {lane: most - load.dispatched.get(lane, 0) for lane, most in depth.items()})


def choose(queues: Sequence[TenantQueue], room: Room, now: datetime) -> list[Grant]:
    """Take turns: a job of each queue, the more urgent lanes first, until the room is full."""
    total, lanes = room.total, dict(room.lanes)
    taken = {(queue.tenant_id, queue.lane): 0 for queue in queues}
    ordered = sorted(queues, key=lambda queue: (list(Lane).index(queue.lane), queue.tenant_id))
    progress = True
    while total > 0 and progress:
        progress = False
        for queue in ordered:
            count = taken[queue.tenant_id, queue.lane]
            if total > 0 and lanes.get(queue.lane, 0) > 0 and count < len(queue.heads):
                taken[queue.tenant_id, queue.lane] = count + 1
                total, lanes[queue.lane], progress = total - 1, lanes[queue.lane] - 1, True
    return [Grant(tenant_id, lane, count, 0) for (tenant_id, lane), count in taken.items() if count]
