"""Rounds of dispatches in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from orchestrator.jobs.fair_share import PLACES_PER_SLOT
from orchestrator.jobs.model import Job, JobState, Lane, RunRef
from orchestrator.jobs.round_rows import rows_to_pools
from orchestrator.jobs.rounds import (
    SUSPECT_CRASHES,
    Dispatched,
    DispatchPlan,
    Offer,
    PoolQueues,
    Room,
)

from services.orchestrator.tests.in_memory_jobs.tables import DispatchedEvent, JobTables, Queue, Round, Row

WORKER_TTL = timedelta(seconds=15)
HANDICAPS = {Lane.INTERACTIVE: timedelta(0), Lane.STANDARD: timedelta(seconds=2), Lane.BATCH: timedelta(seconds=8)}


class InMemoryDispatches(JobTables):
    """The part of `JobStore` that dispatches."""

    async def waiting(self) -> list[PoolQueues]:
        return rows_to_pools(self._waiting_rows())

    def _waiting_rows(self) -> Iterator[dict[str, Any]]:
        now = self.now()
        slots = self._live_slots()
        for pool in slots:
            queues = {key: queue for key, queue in self.queues.items() if key[1] == pool}
            flying = {
                lane.value: sum(q.dispatched + q.running for key, q in queues.items() if key[2] == lane)
                for lane in Lane
            }
            free = PLACES_PER_SLOT * slots[pool] - sum(flying.values())
            backlogged = sum(queue.queued > 0 for queue in queues.values())
            last = self.rounds.get(pool, Round(0, {}))
            shared = {
                **flying,
                **{f"{lane.value}_at": last.last.get(lane) for lane in Lane},
                "pool": pool,
                "slots": slots[pool],
                "round": last.number,
                "now": now,
            }
            for (tenant, _, lane), queue in queues.items():
                if free <= 0 or not queue.queued:
                    continue
                wanted = max(4, min(free, 4 * free // backlogged))
                heads = self._heads(tenant, pool, lane)[: wanted + 1]
                if heads:
                    yield {
                        **shared,
                        "lane": lane,
                        "tenant_id": tenant,
                        "queued": queue.queued,
                        "deficit": queue.deficit,
                        "job_ids": [row.job.job_id for row in heads],
                        "epochs": [row.job.epoch for row in heads],
                        "costs": [row.new.cost_tokens for row in heads],
                        "due_at": min(row.due_at for row in heads),
                        "wanted": wanted,
                    }

    def _live_slots(self) -> Counter[str]:
        slots: Counter[str] = Counter()
        for worker in self.workers.values():
            if worker.seen_at > self.now() - WORKER_TTL:
                slots[worker.pool] += worker.slots
        return slots

    def _heads(self, tenant: str, pool: str, lane: str) -> list[Row]:
        heads = [
            row
            for row in self.rows.values()
            if (row.job.tenant_id, row.job.pool, row.job.lane) == (tenant, pool, lane)
            and row.job.state is JobState.QUEUED
            and row.due_at <= self.now()
            and not self.is_paused(row.job)
            and (row.job.crashes < SUSPECT_CRASHES or row is self._next_suspect(pool))
        ]
        return sorted(heads, key=_by_due_time)

    def _next_suspect(self, pool: str) -> Row | None:
        suspects = [row for row in self.rows.values() if row.job.pool == pool and row.job.crashes >= SUSPECT_CRASHES]
        if any(_is_suspect_in_flight(row) for row in suspects):
            return None
        due = (
            row
            for row in suspects
            if row.job.state is JobState.QUEUED and row.due_at <= self.now() and not self.is_paused(row.job)
        )
        return min(due, key=_by_due_time, default=None)

    def is_paused(self, job: Job) -> bool:
        return any(
            tenant in {"*", job.tenant_id} and pool in {"", job.pool} and model in {"", job.model}
            for tenant, pool, model in self.pauses
        )

    async def dispatch(self, plan: DispatchPlan, claim_within: timedelta) -> list[Dispatched] | None:
        last = self.rounds.setdefault(plan.pool, Round(0, {}))
        if last.number != plan.round:
            return None
        last.number += 1
        last.last.update(dict.fromkeys(plan.lanes.values(), self.now()))
        for (lane, tenant), deficit in plan.deficits.items():
            self.queues.setdefault((tenant, plan.pool, lane), Queue()).deficit = deficit
        dispatched = (self._dispatch(run, claim_within) for run in plan.jobs)
        return [one for one in dispatched if one is not None]

    def _dispatch(self, run: RunRef, claim_within: timedelta) -> Dispatched | None:
        row = self.fenced(run, JobState.QUEUED)
        if row is None:
            return None
        now = self.now()
        waited, row.due_at, row.dispatched_at = now - row.due_at, now + claim_within, now
        self.move(row, state=JobState.DISPATCHED, state_reason="", epoch=run.epoch + 1)
        self.outbox.append(DispatchedEvent(row.job.ref, row.job.pool, row.job.lane.value))
        return Dispatched(row.job.ref, row.job.lane, waited)

    async def returned(self) -> list[DispatchPlan]:
        plans = []
        for pool, slots in self._live_slots().items():
            once = [row for row in self.rows.values() if row.job.pool == pool and row.job.crashes == 1]
            places = slots - sum(row.job.state is JobState.DISPATCHED for row in once)
            due = [
                row
                for row in once
                if row.job.state is JobState.QUEUED and row.due_at <= self.now() and not self.is_paused(row.job)
            ]
            lanes = {row.job.ref: row.job.lane.value for row in sorted(due, key=_by_due_time)[: max(0, places)]}
            if lanes:
                number = self.rounds.get(pool, Round(0, {})).number
                plans.append(DispatchPlan(pool, number, tuple(lanes), lanes, {}, self.now()))
        return plans

    async def unclaimed(self, pool: str, room: Room, after: timedelta) -> list[Offer]:
        dispatched = [row for row in self.in_state(JobState.DISPATCHED) if row.job.pool == pool]
        returned = sorted((row for row in dispatched if row.job.crashes), key=_by_due_time)[: room.slots]
        late = [row for row in dispatched if not row.job.crashes and row.offered_at <= self.now() - after]
        late = sorted(late, key=lambda row: row.offered_at + HANDICAPS[row.job.lane])[: room.free]
        for row in late:
            row.dispatched_at = self.now()
        return [Offer(row.job.ref, row.job.lane) for row in (*returned, *late)]

    async def requeue_lost_dispatches(self, limit: int) -> list[Job]:
        lost = [row for row in self.in_state(JobState.DISPATCHED) if row.due_at <= self.now()]
        lost = sorted(lost, key=lambda row: row.due_at)[:limit]
        for row in lost:
            row.due_at = row.job.created_at
            self.move(row, state=JobState.QUEUED)
        return [row.job for row in lost]


def _by_due_time(row: Row) -> tuple[datetime, str]:
    return row.due_at, row.job.job_id


def _is_suspect_in_flight(row: Row) -> bool:
    """The claim of a running job counts as a crash."""
    state, crashes = row.job.state, row.job.crashes
    return state is JobState.DISPATCHED or (state is JobState.RUNNING and crashes > SUSPECT_CRASHES)
