"""What a batch that is over or being cancelled gets from a process that does not know it yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chassis.errors import ArgosyError
from chassis.postgres import Database
from orchestrator.batches.model import Batch
from orchestrator.batches.postgres import PostgresBatchStore
from orchestrator.jobs.model import Job, Lane, NewJob
from orchestrator.jobs.postgres import PostgresJobStore

from services.orchestrator.tests.batch_store_contract import a_batch, a_caller, claim_of
from services.orchestrator.tests.job_store_contract.subject import new_job


@pytest.fixture
async def jobs(database: Database, owner: Any) -> Any:
    yield PostgresJobStore(database, on_written=lambda: None, on_dispatched=lambda: None)
    await owner.execute("DELETE FROM jobs; DELETE FROM tenant_queues; DELETE FROM batches")


@pytest.fixture
async def batch(database: Database) -> Batch:
    store = PostgresBatchStore(database, on_written=lambda: None)
    batch = await a_batch(store, a_caller())
    return await store.start(await claim_of(store, batch), 2)


def line_of(batch: Batch) -> NewJob:
    return new_job(tenant_id=batch.tenant_id, batch_id=batch.batch_id, lane=Lane.BATCH)


async def test_a_batch_in_progress_gets_jobs(jobs: PostgresJobStore, batch: Batch) -> None:
    (result,) = await jobs.submit([line_of(batch)])

    assert isinstance(result, Job)


@pytest.mark.parametrize(
    "change",
    [
        "state = 'cancelling', cancelling_at = now()",
        "state = 'finalizing'",
        "state = 'cancelled', finished_at = now()",
        "expires_at = now()",
    ],
)
async def test_a_batch_that_is_over_gets_no_more_jobs(
    jobs: PostgresJobStore, batch: Batch, owner: Any, change: str
) -> None:
    await owner.execute(f"UPDATE batches SET {change} WHERE batch_id = $1", batch.batch_id)

    result, other = await jobs.submit([line_of(batch), new_job("job_2", tenant_id=batch.tenant_id)])

    assert isinstance(result, ArgosyError)
    assert isinstance(other, Job)
    assert [row["job_id"] for row in await owner.fetch("SELECT job_id FROM jobs")] == ["job_2"]


async def test_of_a_cancellation_and_a_submission_at_once_the_first_counts(
    jobs: PostgresJobStore, batch: Batch, owner: Any
) -> None:
    async with owner.transaction():
        await owner.execute("UPDATE batches SET state = 'cancelling' WHERE batch_id = $1", batch.batch_id)
        submission = asyncio.create_task(jobs.submit([line_of(batch)]))
        async with asyncio.timeout(30):
            while not await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
    (result,) = await submission

    assert isinstance(result, ArgosyError)
    assert await owner.fetchval("SELECT count(*) FROM jobs") == 0
