"""The store in memory keeps the contract of the real one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from orchestrator.usage.model import RequestUsage

from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.in_memory_jobs.tables import DispatchedEvent, VirtualClock
from services.orchestrator.tests.job_store_contract.subject import Counters
from services.orchestrator.tests.job_store_contract.suite import JobStoreContract


class JobsInMemory:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = InMemoryJobStore(self.clock.now)

    async def pass_time(self, duration: timedelta) -> None:
        self.clock.advance(duration)

    async def events(self) -> list[tuple[str, str, int | str]]:
        found: list[tuple[str, str, int | str]] = []
        for event in self.store.outbox:
            if isinstance(event, RequestUsage):
                found.append(("usage", event.request_id, len(event.attempts)))
            elif isinstance(event, DispatchedEvent):
                found.append(("dispatched", event.run.job_id, event.run.epoch))
            else:
                found.append(("finished", event.job.job_id, event.job.state.value))
        return sorted(found)

    async def counters(self) -> Counters:
        return {
            key: (queue.queued, queue.queued_tokens, queue.dispatched, queue.running)
            for key, queue in self.store.queues.items()
        }

    async def counted(self) -> Counters:
        return self.store.counted()

    async def pause(self, tenant: str, pool: str, model: str) -> None:
        self.store.pauses.add((tenant, pool, model))


class TestInMemoryJobStore(JobStoreContract):
    @pytest.fixture
    def jobs(self) -> JobsInMemory:
        return JobsInMemory()
