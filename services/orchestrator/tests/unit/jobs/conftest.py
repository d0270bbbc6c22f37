"""The engine of jobs on the store in memory."""

from __future__ import annotations

import pytest

from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.in_memory_jobs.tables import VirtualClock
from services.orchestrator.tests.jobs_harness import JobsHarness


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> InMemoryJobStore:
    return InMemoryJobStore(clock.now)


@pytest.fixture
def jobs(store: InMemoryJobStore) -> JobsHarness:
    return JobsHarness(store, store)
