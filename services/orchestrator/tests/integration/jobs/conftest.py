"""A job store on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from chassis.postgres import Database
from orchestrator.jobs.postgres import PostgresJobStore


@pytest.fixture
async def store(database: Database, owner: Any) -> AsyncIterator[PostgresJobStore]:
    store = PostgresJobStore(database, on_written=lambda: None, on_dispatched=lambda: None)
    await store.keep_partitions(10)
    yield store
    await owner.execute(
        "DELETE FROM jobs; DELETE FROM finished_jobs; DELETE FROM tenant_queues; DELETE FROM job_rounds;"
        "DELETE FROM job_workers; DELETE FROM queue_pauses"
    )
